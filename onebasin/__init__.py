"""The front door: one command, ``onebasin``. Only this package knows both sides."""
