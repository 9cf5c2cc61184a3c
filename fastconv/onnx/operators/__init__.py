"""Operators, by theme: importing a module enters its functions in the table."""
