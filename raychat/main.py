"""`raychat`: the one command. The operator's commands and the person's, side by side."""

from __future__ import annotations

import sys

from cyclopts import App

from raychat import __version__
from raychat.errors import RaychatError


def build() -> App:
    from raychat import demo, operate
    from raychat.client import commands as person

    app = App(
        name="raychat",
        help="An end-to-end encrypted messenger whose servers are actors on a Ray cluster.",
        version=__version__,
    )
    operate.add_to(app)
    person.add_to(app)
    app.command(demo.demo)
    return app


def main() -> None:
    """Exit codes: 0 done, 1 an error (said on stderr, with its code), 2 usage, 130 Ctrl-C."""
    try:
        result = build()(exit_on_error=True, result_action="return_value")
    except RaychatError as error:
        print(f"raychat: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(result if isinstance(result, int) else 0)


if __name__ == "__main__":
    main()
