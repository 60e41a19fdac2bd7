// Command prose counts words in the comments of this repository that show whether they are plain
// English. It refuses to judge a sentence: that needs a reader.
//
// It prints a table with one line for each directory. If two texts have equal counts, the one with
// more conditions stated as "if" and fewer nouns made of "what …" is usually easier to read. The
// limits are in word.go, and a test checks them.
//
//	go run ./internal/prose [DIR]
package main
