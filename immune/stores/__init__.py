"""Where decisions and measurements are kept: SQLite files, and twins in memory that make the same promises."""
