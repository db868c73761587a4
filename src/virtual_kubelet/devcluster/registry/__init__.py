"""What the dev cluster serves: one module a kind, with its defaults, validation, table columns and selectable fields."""
