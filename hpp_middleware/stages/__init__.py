"""The awaiting half of each stage of the path; the deciding half has the same name in ``core``."""
