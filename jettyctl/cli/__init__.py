"""The command line: one small file for each command. Heavy imports happen inside the commands, so that help is quick."""
