"""What tabs have in common: a button that runs commands, one that ends them, and what is seen of it."""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import Error
from ..papers.page import PICTURES, Html, image, tag
from .commands import Run
from .desk import Desk, Session, said

if TYPE_CHECKING:
    import gradio as gr

Update = dict[Any, Any]  # parts of the page -> what they are to be
ZOOMS = 25, 50, 100, 200  # percent


class Panel:
    """The buttons, a line that says how far the command is or why it failed, and its words."""

    def __init__(self, desk: Desk, label: str, key: str, *commands: str) -> None:
        """label: of the button; key: the beginning of the parts' names on the page; commands: those that are
        run here, which the other button ends."""
        global gr  # in the hints of what it calls, too, which it reads
        import gradio as gr

        self.desk, self.commands = desk, commands
        with gr.Row():
            self.go = gr.Button(label, variant="primary", elem_id=key)
            self.stop = gr.Button("stop", elem_id=f"{key}-stop")
        self.said = gr.HTML(elem_id=f"{key}-said")
        self.words = gr.Code(label="the command", language="shell", lines=1, wrap_lines=True,
                             elem_id=f"{key}-words", visible=False)
        self.stop.click(self._halt, None, None, concurrency_limit=None)

    def does(self, work: Callable[..., Iterator[Update]], inputs: Sequence[Any], outputs: Sequence[Any],
             *events: Any, again: bool = False) -> Any:
        """Have the button, or these events, do what `work` yields of a session and the inputs' values.

        What it raises as Error is said. again: it is done once more where an event comes meanwhile. Returns
        the event, after which more can be done.
        """
        def run(request: "gr.Request", *given: Any) -> Iterator[Update]:
            yield gr.skip()  # work that yields nothing would leave the parts empty
            try:
                yield from work(self.desk.session(request.session_hash), *given)
            except (Error, OSError) as error:
                yield {self.said: said(str(error), bad=True)}

        return gr.on([*events] or [self.go.click], run, list(inputs), [self.said, self.words, *outputs],
                     concurrency_limit=None, show_progress="hidden",
                     trigger_mode="always_last" if again else "once")

    def follow(self, session: Session, argv: Sequence[str], before: Sequence[Sequence[str]] = ()
               ) -> Generator[Update, None, Run]:
        """Run a command and say how far it is; its Run in the end. before: those of the same click that ran.
        Raises Error where it failed and printed nothing."""
        words = "\n".join(map(self.desk.words, [*before, argv]))
        for run in self.desk.follow(session, argv):
            yield {self.said: said(run.progress or "at work"), self.words: gr.Code(words, visible=True)}
        if (trouble := run.trouble()) and not run.output:
            raise Error(trouble)
        return run

    def _halt(self, request: "gr.Request") -> None:
        self.desk.session(request.session_hash).stop(*self.commands)


def output(run: Run) -> Any:
    """What a command printed as JSON. Raises Error where it is none, as of what was stopped."""
    try:
        return json.loads(run.output)
    except ValueError:
        raise Error(run.trouble() or "the command printed no JSON") from None


def drawn(file: Path) -> Html:
    """A picture in a frame that is scrolled, smaller or larger by choice. It is an image, in which nothing
    runs, whatever names are written in it."""
    choices = [tag("label", tag("input", type="radio", name="zoom", value=f"{zoom}"), f"{zoom} %")
               for zoom in ZOOMS]
    whole = tag("label", tag("input", type="radio", name="zoom", value="fit", checked=""), "to the page")
    return tag("div", tag("form", whole, *choices),
               image(file.name, file.read_bytes(), PICTURES[file.suffix]), class_="drawn")
