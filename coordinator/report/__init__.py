"""The report room: what a campaign's merge achieved, for people, for machines and for model hubs.

Pure functions from a ``Report`` to text; only ``write.write_report`` touches the disk. Import from the modules: a
command that only needs to format a number shouldn't wait for templates and charts.
"""
