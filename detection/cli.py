"""The command line `detect`."""

from __future__ import annotations

import sys
import warnings

from detection import cli_compare, cli_config, cli_evaluate, cli_matrix, cli_predict, cli_report, cli_train
from detection.cli_options import app
from policy_search.cells.errors import InputError

MODULES = (cli_train, cli_evaluate, cli_predict, cli_matrix, cli_compare, cli_report, cli_config)
# In the help, commands stand in the order in which a user needs them.
ORDER = ("pretrain", "finetune", "evaluate", "predict", "matrix", "table", "compare", "report", "config")
app.registered_commands.sort(key=lambda command: ORDER.index(command.callback.__name__))


def main() -> None:
    """Entry point. Bad input ends with exit code 2 and one sentence, never with a traceback."""
    # detectron2 scripts a function while it is imported; a user can do nothing about torch's warning on that.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
    try:
        app()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
