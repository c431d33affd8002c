"""One reader per annotation format: `find(root, split)` recognises it, `read(...)` returns a `Reading`."""
