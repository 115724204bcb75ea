"""All that the environment says, as templates over fields; a hash says which words are in force.

    words = load_words()                    # the default
    words = load_words("my_prompts.jinja")  # the blocks of a file, over the default
    words = load_words(None, "functions")   # the default for function calls
    words = load_words("worked-example")    # those of a file that ships

A file holds Jinja blocks. They are rendered in a sandbox, and are tried once when they are loaded:
an unknown field, a syntax error or a missing template is one line with the file and the line,
before anything is played.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from types import CodeType
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from longvideo_env.errors import InputError, SpecError
from longvideo_env.game.words.fields import ALL_SAMPLES, PLAIN, Shown

DEFAULT = "default.jinja"
"""The words of the protocol of tags. Those of another protocol are `NAME.jinja`, over these."""

SHIPPED = {"worked-example": "worked_example.jinja"}
"""Words that ship besides the default, by the name that stands in place of a file."""

LAID_OVER = {"answers": "answers.jinja", "judge": "judge.jinja", "frames": "frames.jinja"}
"""Words that an option of the environment lays over the default ones, below a file of one's own.

Those that a protocol says otherwise are `NAME_PROTOCOL.jinja` beside them."""

SEEING = {
    "You cannot see the video. You read": (
        "You see a few frames of the video at a time, which come with the messages. You read"
    ),
    "You cannot see the video; tools": (
        "You see a few frames of the video at a time, which come with the messages; tools"
    ),
    "a long video that you cannot see.": (
        "a long video, of which you see a few frames at a time, with the messages."
    ),
}
"""What the rules that ship say to a master who sees, in place of what they say to others."""


@dataclass(frozen=True, slots=True)
class _Block:
    """One template, checked and compiled; `text` tells two of them apart."""

    name: str
    text: str
    code: CodeType


class Words:
    """Named templates.

    Attributes:
        digest: Sixteen hex digits of all texts: which words these are.
        source: Where they came from, for people.
    """

    def __init__(self, blocks: Mapping[str, _Block], source: str) -> None:
        self.source = source
        self.blocks = blocks
        text = "\x1f".join(f"{name}\x1e{blocks[name].text}" for name in sorted(blocks))
        self.digest = blake2b(text.encode(), digest_size=8).hexdigest()

    def speaker(self, neutralise: Callable[[str], str]) -> Speaker:
        """The words, ready to be said in a protocol.

        Args:
            neutralise: Makes text from outside harmless.
        """
        return Speaker(self, neutralise)


class Speaker:
    """Renders words. Strings among the fields are neutralised, `Shown` ones are not.

    Args:
        words: The words.
        neutralise: Makes text from outside harmless.
    """

    def __init__(self, words: Words, neutralise: Callable[[str], str]) -> None:
        environment = self._environment = _environment(neutralise)
        self._templates = {
            name: environment.template_class.from_code(
                environment, block.code, environment.make_globals(None)
            )
            for name, block in words.blocks.items()
        }

    def say(self, name: str, fields: dict[str, Any]) -> Shown:
        """A block with its fields."""
        template = self._templates[name]
        context = _Fields(self._environment, fields, name)
        return Shown("".join(template.root_render_func(context)))

    def line_of(self, name: str, error: BaseException) -> str:
        """The line of a block's file at which an error arose while it was said."""
        template, line = self._templates[name], "?"
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == template.filename:
                line = str(template.get_corresponding_lineno(trace.tb_lineno))
            trace = trace.tb_next
        return line


def load_words(
    path: str | Path | None = None,
    protocol: str = "tags",
    over: tuple[str, ...] = (),
    game: str = "",
) -> Words:
    """The words of a file, or of a name of `SHIPPED`, over the protocol's default ones.

    Without one, the default words alone.

    Args:
        path: The file.
        protocol: Whose words.
        over: Names of `LAID_OVER`, which lie over the default.
        game: Blocks of a game, which lie between these and the file.

    Raises:
        SpecError: The file cannot be read, or a block in it is wrong.
    """
    if path is None or str(path) == "":
        return _usual(protocol, over, game)
    try:
        file = SHIPPED.get(str(path))
        text = shipped_text(file) if file else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = f"Fix: name a file, or one of {', '.join(SHIPPED)}."
        raise InputError(f"the prompts {path} cannot be read: {error}. {known}") from error
    own = _read(text, str(path))
    return Words({**_usual(protocol, over, game).blocks, **own}, str(path))


def default_text(protocol: str = "tags") -> str:
    """The default words of a protocol, as `longvideo-env prompts` prints them."""
    file = f"{protocol}.jinja"
    there = files("longvideo_env.game.words").joinpath(file).is_file()
    return shipped_text(file if there else DEFAULT)


def shipped_text(file: str) -> str:
    """A file of words that ships."""
    return files("longvideo_env.game.words").joinpath(file).read_text(encoding="utf-8")


@lru_cache(maxsize=8)
def _usual(protocol: str, over: tuple[str, ...], game: str) -> Words:
    blocks = dict(_default(protocol).blocks)
    sees = "frames" in over
    if sees:
        blocks |= _read(_seeing(default_text(protocol)), f"{protocol}.jinja")
    for name in over:
        for file in (LAID_OVER[name], f"{name}_{protocol}.jinja"):
            if files("longvideo_env.game.words").joinpath(file).is_file():
                text = shipped_text(file)
                blocks |= _read(_seeing(text) if sees else text, file)
    if game:
        blocks |= _read(_seeing(game) if sees else game, "the words of the game")
    return Words(blocks, "default") if over or game else _default(protocol)


def _seeing(text: str) -> str:
    for blind, seeing in SEEING.items():
        text = text.replace(blind, seeing)
    return text


@lru_cache(maxsize=4)
def _default(protocol: str) -> Words:
    if protocol == "tags":
        return Words(_read(default_text(), DEFAULT), "default")
    own = _read(default_text(protocol), f"{protocol}.jinja")
    return Words({**_default("tags").blocks, **own}, "default")


class _Fields(Context):
    """A template's variables, without what only inheritance and imports need."""

    def __init__(
        self, environment: Any, parent: dict[str, Any], name: str | None, *_: Any, **__: Any
    ) -> None:
        self.parent = parent
        self.vars = {}
        self.environment = environment
        self.eval_ctx = environment.shared_eval_context
        self.exported_vars = set()
        self.name = name
        self.blocks = {}


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, with a short way to our own fields, which are read in every step."""

    context_class = _Fields

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shared_eval_context = EvalContext(self)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An attribute of a field."""
        if attribute in PLAIN.get(type(obj), ()):
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


def _environment(neutralise: Callable[[str], str]) -> ImmutableSandboxedEnvironment:
    def finalize(value: Any) -> Any:
        return neutralise(value) if type(value) is str and "<" in value else value

    return _Sandbox(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=finalize
    )


def _read(text: str, file: str) -> dict[str, _Block]:
    environment = _environment(lambda value: value)
    try:
        tree = environment.parse(text, filename=file)
    except TemplateSyntaxError as error:
        raise SpecError(f"{file}, line {error.lineno}: {error.message}") from error
    found: dict[str, _Block] = {}
    for node in tree.body:
        if isinstance(node, nodes.Block):
            if node.name in found:
                raise SpecError(f"{file}, line {node.lineno}: block {node.name!r} stands twice.")
            try:
                found[node.name] = _compile(environment, node, text, file)
            except TemplateSyntaxError as error:  # such as a filter that does not exist
                raise SpecError(f"{file}, line {error.lineno}: {error.message}") from error
        elif not _is_blank(node):
            raise SpecError(
                f"{file}, line {node.lineno}: expected blocks and comments only. Fix: put text "
                "between {% block NAME %} and {% endblock %}."
            )
    if not found:
        raise SpecError(f"{file}, line 1: there is no block. `longvideo-env prompts` shows them.")
    return found


def _is_blank(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Output) and all(
        isinstance(part, nodes.TemplateData) and not part.data.strip() for part in node.nodes
    )


def _compile(
    environment: ImmutableSandboxedEnvironment, node: nodes.Block, text: str, file: str
) -> _Block:
    where = f"{file}, line {node.lineno}"
    if node.name not in ALL_SAMPLES:
        raise SpecError(f"{where}: unknown block {node.name!r}; blocks: {', '.join(ALL_SAMPLES)}.")
    _strip_end(node)
    tree = nodes.Template(node.body, lineno=node.lineno)
    tree.set_environment(environment)
    known = ALL_SAMPLES[node.name][0]
    for name in sorted(meta.find_undeclared_variables(tree) - set(known)):
        lines = [n.lineno for n in tree.find_all(nodes.Name) if n.name == name]
        raise SpecError(
            f"{file}, line {min(lines)}: block {node.name!r} has no field {name!r}; fields: "
            f"{', '.join(sorted(known))}."
        )
    inner = [*tree.find_all((nodes.Block, nodes.Include, nodes.Import, nodes.FromImport))]
    if inner:
        raise SpecError(f"{file}, line {inner[0].lineno}: a block cannot hold this.")
    code = environment.compile(tree, name=node.name, filename=file)
    assert isinstance(code, CodeType)
    block = _Block(node.name, repr(node.body), code)
    speaker = Words({node.name: block}, file).speaker(str)
    for sample in ALL_SAMPLES[node.name]:
        try:
            speaker.say(node.name, dict(sample))
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise SpecError(f"{file}, line {speaker.line_of(node.name, error)}: {error}") from error
    return block


def _strip_end(node: nodes.Block) -> None:
    """Drop the newline before `endblock`, which stands there for the reader."""
    last = node.body[-1] if node.body else None
    if isinstance(last, nodes.Output) and isinstance(last.nodes[-1], nodes.TemplateData):
        last.nodes[-1].data = last.nodes[-1].data.removesuffix("\n")
