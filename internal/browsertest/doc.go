// Package browsertest tests the page of `replay-tool timeline --format html` in a browser.
//
// It is a module of its own: programs that embed the store do not get its dependencies.
package browsertest
