"""Pure decisions: standard library only; no clock, dice, IO or logging. `now` is always a parameter."""
