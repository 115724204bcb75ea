"""Ask one question about a film of your own, and see how the agents come to their answer.

    longvideo-env ingest film.mkv --subtitles film.srt --out data/film
    longvideo-env ask data/film "Who opens the box?"
    longvideo-env ask data/film "Who opens the box?" --options "the old man" "nobody"
    longvideo-env ask data/film "Who opens the box?" --meaning models/minilm
    longvideo-env ask data/film "Who opens the box?" --policy hf:PATH

The folder is one that `ingest` or `prepare` wrote, or any in a layout of docs/data.md. Without
--options the master answers in words. Times are those of the film. Without --policy nothing is
understood: the line that speaks most of the question is quoted: by what both mean where a model of
embeddings is at hand (--meaning), else by the words that both share.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agents.ask_trace import answer_of, trace
from agents.evidence import film_lines
from agents.generation.settings import GenerationSettings
from agents.known import find_gaps
from agents.perception.embeddings import Embedder, model_at_hand, open_embedder
from agents.policies.build import build_policy, check_frames, check_protocol
from agents.policies.remembering import RememberingPolicy
from agents.vision.captions import described
from longvideo_env import EnvConfig, RolloutEngine
from longvideo_env.commands.exit_codes import EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.config import PROTOCOLS, RESOLUTION
from longvideo_env.datasets import Dataset
from longvideo_env.datasets.layers import CAPTIONS, TEXT
from longvideo_env.datasets.own.ingested import load_videos
from longvideo_env.errors import BlindAgentError, MissingExtraError, SpecError
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.schema import MAX_OPTIONS, MIN_OPTIONS, Gold, Question, Task, Video
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox

QUOTE, LINES, AUTO, NONE = "quote", "lines", "auto", "none"
_DESCRIBED = (CAPTIONS, TEXT)
"""Vision agents that read layers of text, not images. Named like their layers."""


def ask(
    folder: str | Path,
    text: str,
    options: Sequence[str] = (),
    *,
    config: EnvConfig,
    policy: str,
    video: str | None = None,
    seed: int = 0,
) -> tuple[Trajectory, Video]:
    """Ask one question about a video of a folder.

    Args:
        folder: Folder with the video's clips.
        text: The question.
        options: Two to eight options, or none for a free-text answer.
        config: The environment; its dataset and split are ignored. `vision="auto"` uses the first
            that the video has: `captions`, `text`, or none.
        policy: Spec of the master agent.
        video: Id of the video, if the folder has several.
        seed: Seed of the episode.

    Raises:
        DataError: The folder is invalid.
        SpecError: There is no such video, or the number of options is wrong.
        BlindAgentError: The agents have no input.
    """
    asker = Asker(folder, config=config, policy=policy, video=video, seed=seed)

    async def once() -> Trajectory:
        try:
            return await asker.ask(text, options)
        finally:
            await asker.aclose()

    return run_blocking(once()), asker.video


class Asker:
    """Asks several questions about a video. The agents are built once.

    Args:
        folder: Folder with the video's clips.
        config: See `ask`.
        policy: Spec of the master agent.
        video: Id of the video, if the folder has several.
        seed: Seed of the episodes.
        remember: Whether the master sees earlier questions and its answers.

    Raises:
        DataError: The folder is invalid.
        SpecError: There is no such video or agent.
        BlindAgentError: The agents have no input.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        config: EnvConfig,
        policy: str,
        video: str | None = None,
        seed: int = 0,
        remember: bool = False,
    ) -> None:
        videos = load_videos(folder, config.frames_root)
        self.video = videos[_choose(videos, video)]
        config = _with_vision(config, self.video)
        check_something_known(self.video, config)
        dataset = Dataset(Path(folder).name, "asked", (), videos)
        check_protocol(policy, config.protocol)
        check_frames(policy, config.frames)
        master = build_policy(policy, GenerationSettings())
        self._memory = RememberingPolicy(master) if remember else None
        self._master = self._memory or master
        self._engine = RolloutEngine(
            dataset=dataset,
            config=config,
            toolbox=build_toolbox(config, dataset),
            policy=self._master,
            policy_spec=policy,
            seed=seed,
        )

    async def ask(self, text: str, options: Sequence[str] = ()) -> Trajectory:
        """Ask a question.

        Raises:
            SpecError: The question is empty, or the number of options is wrong.
        """
        if options and not MIN_OPTIONS <= len(options) <= MAX_OPTIONS:
            raise SpecError(f"expected {MIN_OPTIONS} to {MAX_OPTIONS} options, got {len(options)}.")
        if not text.strip() or not all(option.strip() for option in options):
            raise SpecError("the question and its options must not be empty.")
        shown = tuple(map(str.strip, options))
        question = Question("asked", text.strip(), shown, self.video.video_id)
        played = await self._engine.play(Task(question, Gold()))
        if self._memory is not None and (answer := answer_of(played, shown)) is not None:
            self._memory.remember(*map(self._engine.game.protocol.neutralise, (text, answer)))
        return played

    async def aclose(self) -> None:
        """Release what the master agent holds."""
        await self._master.aclose()


def _with_vision(config: EnvConfig, video: Video) -> EnvConfig:
    if config.vision != AUTO:
        return config
    known = (k for k in _DESCRIBED if any(described(clip, k) for clip in video.clips))
    return replace(config, vision=next(known, "none"))


def check_something_known(video: Video, config: EnvConfig) -> None:
    """Raise before any cost if the agents have no input.

    Raises:
        BlindAgentError: The film has no text and no agent sees frames; or the vision agent has no
            frames, captions or text.
    """
    for gap in find_gaps([video], config):
        if gap.role in ("vision", "frames"):
            raise BlindAgentError(f"{video.video_id}: {gap}. Fix: {gap.need.fix}.")
    looks = config.frames or config.vision.partition(":")[0] not in ("none", *_DESCRIBED)
    if not looks and not film_lines(video).placed:
        raise BlindAgentError(
            f"the agents have no input for {video.video_id}: it has no subtitles, speech, text or "
            "captions, and no agent looks at frames. Fix: ingest it with --subtitles FILE, "
            "--speech whisper:small or --read-text rapidocr; or set --vision openai:MODEL or "
            "vlm:FOLDER."
        )


def _choose(videos: Mapping[str, Video], wanted: str | None) -> str:
    if wanted is None and len(videos) == 1:
        return next(iter(videos))
    if wanted is None or wanted not in videos:
        some = ", ".join(list(videos)[:5]) + (" ..." if len(videos) > 5 else "")
        problem = "which video?" if wanted is None else f"no video {wanted!r}."
        raise SpecError(
            f"{problem} The folder has {len(videos):,} videos: {some}. Fix: pass --video."
        )
    return wanted


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(
        "longvideo-env ask",
        __doc__,
        findings="no answer, or an agent failed",
    )
    parser.add_argument("folder", help="what ingest or prepare wrote")
    parser.add_argument("question", help="about the video, in quotes")
    parser.add_argument(
        "--options", nargs="+", default=[], metavar="OPTION", help="two to eight answers"
    )
    add_agents(parser)
    return parser


def add_agents(parser: OptionParser) -> None:
    """Add the options for the video and the agents."""
    add = parser.add_argument
    add("--video", help="which video, where the folder has several")
    add("--meaning", default=AUTO, metavar="MODEL", help="a model of embeddings, for the agents "
        "that quote and find lines: a folder with model.onnx and tokenizer.json; auto: one that is "
        "in the hub's cache; none: words alone")  # fmt: skip
    add("--policy", help=f"master agent (default: {QUOTE})")
    add("--grounding", help=f"grounding agent (default: {LINES})")
    add("--vision", default=AUTO, help="vision agent; auto: captions where there are any, else "
        "text that was read in the frames, else none")  # fmt: skip
    add("--max-turns", type=int, default=5, help="turns the master has")
    add("--window", type=int, default=1, help="clips seen at once, 1 to 5")
    add("--protocol", choices=PROTOCOLS, help="how the master writes its actions (default: tags)")
    add("--frames", type=int, default=0, help="frames of each view that the master itself sees, if "
        "its model takes images")  # fmt: skip
    add("--resolution", type=int, default=RESOLUTION, help="their longest side")
    add("--frames-root", help="folder of the frames (default: frames in the folder)")
    add("--seed", type=int, default=0, help="random seed")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("ask", lambda: _run(args))


def open_meaning(args: argparse.Namespace) -> Embedder | None:
    """Open the model of `--meaning` and set the option to its folder. None if `auto` finds none.

    Raises:
        SpecError: There is no such model.
        MissingExtraError: A library is not installed, and the spec is not `auto`.
    """
    if args.meaning == AUTO:
        try:
            args.meaning = model_at_hand()
        except (SpecError, MissingExtraError) as error:
            if not (args.policy and args.grounding):
                sys.stderr.write(f"meaning: lines are found by words only, {error}\n")
            args.meaning = NONE
    if args.meaning == NONE:
        args.meaning = ""
    return open_embedder(args.meaning) if args.meaning else None


def specs_of(args: argparse.Namespace) -> tuple[str, EnvConfig]:
    """The master agent and the environment from the command line."""
    behind = f":{args.meaning}" if args.meaning else ""
    names = ("vision", "max_turns", "window", "protocol", "frames", "resolution", "frames_root")
    config = EnvConfig(
        grounding=args.grounding or LINES + behind, **{name: getattr(args, name) for name in names}
    )
    return args.policy or QUOTE + behind, config


def _run(args: argparse.Namespace) -> int:
    embedder = open_meaning(args)
    policy, config = specs_of(args)
    trajectory, video = ask(
        args.folder,
        args.question,
        args.options,
        config=config,
        policy=policy,
        video=args.video,
        seed=args.seed,
    )
    sys.stdout.write("\n".join(trace(trajectory, video, args.options, embedder)) + "\n")
    return 0 if trajectory.status == "answered" else EXIT_FINDINGS
