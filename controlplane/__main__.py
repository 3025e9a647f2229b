"""`thalweg` and `python -m controlplane`."""

from controlplane.cli.main import app


def main() -> None:
    """Run the command line."""
    app(prog_name="thalweg")


if __name__ == "__main__":
    main()
