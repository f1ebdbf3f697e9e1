"""The database: SQLModel tables, compiled statements, and one writer that commits in groups."""
