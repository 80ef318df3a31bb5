"""A detector as an HTTP service, with a page to try it. Needs the extra ``serve``."""
