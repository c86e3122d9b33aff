"""For tests of programs and plugins that use the library: parts of it that need no process and no file."""
