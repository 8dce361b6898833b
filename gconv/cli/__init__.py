"""The command ``gconv``."""

from __future__ import annotations

import sys

import click

from gconv import __version__
from gconv.backends import BackendUnavailableError
from gconv.cli.bench import bench
from gconv.cli.evaluate import evaluate
from gconv.cli.info import info
from gconv.cli.signals import end_like_ctrl_c, exit_code
from gconv.cli.sweep import sweep
from gconv.cli.train import train

__all__ = ["main"]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, invoke_without_command=True
)
@click.version_option(__version__, prog_name="gconv")
@click.pass_context
def gconv(context: click.Context) -> None:
    """Convolutional networks on NumPy or CuPy arrays: train one, evaluate it, see what this machine offers."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (train, sweep, evaluate, bench, info):
    gconv.add_command(command)


def main(args: list[str] | None = None) -> None:
    """Run the command line; a mistake is one line on stderr and exit code 2."""
    end_like_ctrl_c()
    try:
        sys.exit(gconv.main(args, prog_name="gconv", standalone_mode=False) or 0)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except (click.Abort, KeyboardInterrupt) as error:
        _fail("interrupted", exit_code(error))
    except MemoryError as error:
        _fail(str(error) or "out of memory", 1)
    except FloatingPointError as error:
        _fail(str(error), 1)
    except (ValueError, TypeError, OSError, ModuleNotFoundError, BackendUnavailableError) as error:
        _fail(str(error), 2)


def _fail(text: str, code: int) -> None:
    click.echo(f"gconv: {text}", err=True)
    sys.exit(code)
