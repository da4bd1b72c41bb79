// Package docscheck holds the tests of docs: what the pages show is what the
// programs do. Every link leads somewhere and every page is reached from
// docs/README.md; every YAML example passes the program's own check; every command
// line names a command with flags that there are; every sentence that a page puts
// into a program's mouth stands in the source; every picture is made by `make
// test-ui`; a page in Vietnamese is built like the English one.
//
// Pages mark what the programs say in two ways: a fenced block with the info string
// says, one sentence a line, and the first column of a table that is headed "it
// says" ("máy báo" in Vietnamese). An ellipsis (…) stands for what differs from case
// to case. A YAML example whose first line is a comment with a file name
// (# rules/noise.yaml) is that file for the examples after it on the page; one that
// is part of a file only is completed with what it leaves out before it is checked.
package docscheck
