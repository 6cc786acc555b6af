"""What the papers print: every value of their tables, the tables' declarations, and what follows from both."""
