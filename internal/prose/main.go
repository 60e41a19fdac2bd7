package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	all, err := comments(root, false)
	if err != nil {
		fmt.Fprintln(os.Stderr, "prose:", err)
		os.Exit(1)
	}
	byDir, total := map[string]*tally{}, new(tally)
	for _, c := range all {
		dir := filepath.Dir(c.file)
		if byDir[dir] == nil {
			byDir[dir] = new(tally)
		}
		byDir[dir].add(c.text)
		total.add(c.text)
	}
	fmt.Printf("per 1,000 words of comments outside tests\n\n%-30s %7s", "directory", "words")
	for _, w := range words {
		fmt.Printf(" %7s", w.name)
	}
	fmt.Println()
	dirs := make([]string, 0, len(byDir))
	for dir := range byDir {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		printTally(dir, byDir[dir])
	}
	printTally("all", total)
}

func printTally(name string, t *tally) {
	fmt.Printf("%-30s %7d", name, t.total)
	for i := range words {
		fmt.Printf(" %7.1f", t.per1000(i))
	}
	fmt.Println()
}
