"""Tasks and the processes that run them. Imports serialization and store; design.md, section 4."""
