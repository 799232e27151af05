"""``python -m onebasin`` is ``onebasin``."""

from onebasin.cli import main

if __name__ == "__main__":
    main()
