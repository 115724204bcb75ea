"""All texts of the environment, as Jinja templates. A hash identifies the set of texts.

    words = load_words()                    # the default
    words = load_words("my_prompts.jinja")  # the blocks of a file, over the default
    words = load_words(None, "functions")   # the default for function calls
    words = load_words("worked-example")    # a built-in file

A file contains Jinja blocks, which are rendered in a sandbox. Each is rendered once when loaded. An
unknown field, a syntax error or a missing template is then reported with file and line, before an
episode starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from types import CodeType
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from longvideo_env.errors import InputError, SpecError
from longvideo_env.game.words.fields import ALL_SAMPLES, PLAIN, Shown

DEFAULT = "default.jinja"
"""The words of the protocol `tags`. Another protocol overrides blocks in `NAME.jinja`."""

SHIPPED = {"worked-example": "worked_example.jinja"}
"""Built-in words besides the default, by the name that `prompts` takes in place of a file."""

LAID_OVER = {"answers": "answers.jinja", "judge": "judge.jinja", "frames": "frames.jinja"}
"""Words that an option of the environment adds to the default ones; a user's file overrides them.

Variants for a protocol are in `NAME_PROTOCOL.jinja`.
"""

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
"""Replacements in the built-in rules for a master that sees."""


@dataclass(frozen=True)
class _Block:
    """One template, compared by `text`. It is compiled at first use."""

    name: str
    text: str
    compile: Callable[[], Any]

    @cached_property
    def code(self) -> CodeType:
        """Its code."""
        code = self.compile()
        assert isinstance(code, CodeType)
        return code


class Words:
    """Named templates.

    Attributes:
        digest: Hash of all texts: sixteen hex digits.
        source: Where the words come from, for messages.
    """

    def __init__(self, blocks: Mapping[str, _Block], source: str) -> None:
        self.source = source
        self.blocks = blocks
        text = "\x1f".join(f"{name}\x1e{blocks[name].text}" for name in sorted(blocks))
        self.digest = blake2b(text.encode(), digest_size=8).hexdigest()

    def speaker(self, neutralise: Callable[[str], str]) -> Speaker:
        """A `Speaker` of these words for a protocol.

        Args:
            neutralise: Escapes text from outside.
        """
        return Speaker(self, neutralise)


class Speaker:
    """Renders words. Plain strings in the fields are escaped, `Shown` strings are not.

    Args:
        words: The words.
        neutralise: Escapes text from outside.
    """

    def __init__(self, words: Words, neutralise: Callable[[str], str]) -> None:
        self._environment = _environment(neutralise)
        self._blocks = words.blocks
        self._templates: dict[str, Template] = {}

    def say(self, name: str, fields: dict[str, Any]) -> Shown:
        """Render a block with its fields."""
        template = self._templates.get(name) or self._template(name)
        context = _Fields(self._environment, fields, name)
        return Shown("".join(template.root_render_func(context)))

    def _template(self, name: str) -> Template:
        environment, code = self._environment, self._blocks[name].code
        template = Template.from_code(environment, code, environment.make_globals(None))
        self._templates[name] = template
        return template

    def line_of(self, name: str, error: BaseException) -> str:
        """The line of a block's file at which an error occurred during rendering."""
        template, line = self._template(name), "?"
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
    """Load the words of a file, or of a name in `SHIPPED`, over the protocol's default words.

    Without a file, load the default words.

    Args:
        path: The file.
        protocol: The protocol whose default words are used.
        over: Names in `LAID_OVER`, which override the default.
        game: Blocks of a game, which override both; the file overrides these.

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
    """The text of a built-in file of words."""
    return files("longvideo_env.game.words").joinpath(file).read_text(encoding="utf-8")


@lru_cache(maxsize=8)
def _usual(protocol: str, over: tuple[str, ...], game: str) -> Words:
    blocks = dict(_default(protocol).blocks)
    sees = "frames" in over
    if sees:
        blocks |= _read(_seeing(default_text(protocol)), f"{protocol}.jinja", trusted=True)
    for name in over:
        for file in (LAID_OVER[name], f"{name}_{protocol}.jinja"):
            if files("longvideo_env.game.words").joinpath(file).is_file():
                text = shipped_text(file)
                blocks |= _read(_seeing(text) if sees else text, file, trusted=True)
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
        return Words(_read(default_text(), DEFAULT, trusted=True), "default")
    own = _read(default_text(protocol), f"{protocol}.jinja", trusted=True)
    return Words({**_default("tags").blocks, **own}, "default")


class _Fields(Context):
    """A template's variables, without the parts for inheritance and imports."""

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
    """The sandbox, with a fast path for our own fields, which are read in every step."""

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


def _read(text: str, file: str, *, trusted: bool = False) -> dict[str, _Block]:
    """The blocks of a text; those that ship are trusted, because the tests try them."""
    environment = _environment(lambda value: value)
    try:
        tree = environment.parse(text, filename=file)
    except TemplateSyntaxError as error:
        raise SpecError(f"{file}, line {error.lineno}: {error.message}") from error
    found: dict[str, _Block] = {}
    for node in tree.body:
        if isinstance(node, nodes.Block):
            if node.name in found:
                raise SpecError(f"{file}, line {node.lineno}: block {node.name!r} occurs twice.")
            try:
                found[node.name] = _block(environment, node, file, trusted=trusted)
            except TemplateSyntaxError as error:  # such as a filter that does not exist
                raise SpecError(f"{file}, line {error.lineno}: {error.message}") from error
        elif not _is_blank(node):
            raise SpecError(
                f"{file}, line {node.lineno}: expected blocks and comments only. Fix: put text "
                "between {% block NAME %} and {% endblock %}."
            )
    if not found:
        raise SpecError(f"{file}, line 1: there is no block. Fix: see `longvideo-env prompts`.")
    return found


def _is_blank(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Output) and all(
        isinstance(part, nodes.TemplateData) and not part.data.strip() for part in node.nodes
    )


def _block(
    environment: ImmutableSandboxedEnvironment, node: nodes.Block, file: str, *, trusted: bool
) -> _Block:
    where = f"{file}, line {node.lineno}"
    if node.name not in ALL_SAMPLES:
        raise SpecError(f"{where}: unknown block {node.name!r}; blocks: {', '.join(ALL_SAMPLES)}.")
    _strip_end(node)
    tree = nodes.Template(node.body, lineno=node.lineno)
    tree.set_environment(environment)
    compile_ = partial(environment.compile, tree, name=node.name, filename=file)
    block = _Block(node.name, repr(node.body), compile_)
    if not trusted:
        _check(block, tree, file)
    return block


def _check(block: _Block, tree: nodes.Template, file: str) -> None:
    """Try a block, so that whatever is wrong with it is said before anything is played."""
    known = ALL_SAMPLES[block.name][0]
    for name in sorted(meta.find_undeclared_variables(tree) - set(known)):
        lines = [n.lineno for n in tree.find_all(nodes.Name) if n.name == name]
        raise SpecError(
            f"{file}, line {min(lines)}: block {block.name!r} has no field {name!r}; fields: "
            f"{', '.join(sorted(known))}."
        )
    inner = [*tree.find_all((nodes.Block, nodes.Include, nodes.Import, nodes.FromImport))]
    if inner:
        raise SpecError(f"{file}, line {inner[0].lineno}: this is not allowed in a block.")
    speaker = Words({block.name: block}, file).speaker(str)
    for sample in ALL_SAMPLES[block.name]:
        try:
            speaker.say(block.name, dict(sample))
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            where = speaker.line_of(block.name, error)
            raise SpecError(f"{file}, line {where}: {error}") from error


def _strip_end(node: nodes.Block) -> None:
    """Drop the newline before `endblock`. It is only there for readability."""
    last = node.body[-1] if node.body else None
    if isinstance(last, nodes.Output) and isinstance(last.nodes[-1], nodes.TemplateData):
        last.nodes[-1].data = last.nodes[-1].data.removesuffix("\n")
