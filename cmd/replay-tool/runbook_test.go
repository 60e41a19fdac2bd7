package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const runbookFile = "../../docs/RUNBOOK.md"

var updateRunbook = flag.Bool("update-runbook", false, "rewrite the expected output in docs/RUNBOOK.md")

// The languages of the fenced blocks in the runbook that the test uses. It ignores other blocks.
const (
	setupBlock    = "sh setup"      // prepares the files, its output is not shown
	commandBlock  = "sh"            // a command of the operator
	expectedBlock = "text expected" // the output of the command block before it
	symptomBlock  = "text symptom"  // must occur in the output of the section's set-up or commands
	needsPrefix   = "sh needs "     // a command that is skipped, with its output, if this program is not installed
)

// runbookBlock is a fenced block of the runbook.
type runbookBlock struct {
	language  string
	text      string
	line      int // of the opening fence, from 1
	lineCount int // of the text
}

// runbookSection is a symptom of the runbook: its heading and its blocks.
type runbookSection struct {
	title  string
	blocks []runbookBlock
}

// parseRunbook returns the sections of a Markdown text. A section starts with a heading of level 2.
// The first section is the text before the first of these headings.
func parseRunbook(text string) []runbookSection {
	sections := []runbookSection{{}}
	var open *runbookBlock
	for i, line := range strings.SplitAfter(text, "\n") {
		section := &sections[len(sections)-1]
		fence, isFence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case open != nil && isFence:
			section.blocks = append(section.blocks, *open)
			open = nil
		case open != nil:
			open.text += line
			open.lineCount++
		case isFence:
			open = &runbookBlock{language: fence, line: i + 1}
		case strings.HasPrefix(line, "## "):
			sections = append(sections, runbookSection{title: strings.TrimSpace(line[3:])})
		}
	}
	return sections
}

var runbookVariables = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},          // migration ids have version 7
	{regexp.MustCompile(`(?m)^warning: .* a clock more than a day ahead of this machine's clock.*\n`), ""}, // the recording is later than the machine's clock
	{regexp.MustCompile(`last event \S+ ago|the last event is later than the clock of this machine`), "last event AGE ago"},
	{regexp.MustCompile(`(?m)^log [0-9a-f]{8} `), "log UUID "}, // the first line of triage
	{regexp.MustCompile(`process \d+`), "process PID"},
	{regexp.MustCompile(`on host \S+`), "on host HOST"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[0-9.]*Z`), "TIME"},
}

// withoutMissingPrograms returns the blocks, in which the commands that need a program are plain
// commands if it is installed. Otherwise they and their expected output have no language.
func withoutMissingPrograms(blocks []runbookBlock) []runbookBlock {
	blocks = slices.Clone(blocks)
	for i, b := range blocks {
		program, needs := strings.CutPrefix(b.language, needsPrefix)
		if !needs {
			continue
		}
		blocks[i].language = commandBlock
		if _, err := exec.LookPath(program); err != nil {
			blocks[i].language, blocks[i+1].language = "", ""
		}
	}
	return blocks
}

// normalized replaces the parts of an output that differ from run to run, and removes the spaces at the
// ends of lines.
func normalized(text string) string {
	text = withoutTrailingSpaces(text)
	for _, v := range runbookVariables {
		text = v.pattern.ReplaceAllString(text, v.name)
	}
	return text
}

func withoutTrailingSpaces(text string) string { return trailingSpaces.ReplaceAllString(text, "") }

var trailingSpaces = regexp.MustCompile(`(?m) +$`)

// runSection runs the shared set-up and then the blocks of a section in one shell, in a new directory.
// It returns the output of each block. The set-up stops at the first command that fails.
func runSection(t *testing.T, shared string, blocks []runbookBlock) []string {
	t.Helper()
	var script strings.Builder
	script.WriteString("set -e\n" + shared)
	for i, b := range blocks {
		fmt.Fprintf(&script, "echo '<block %d>'\n", i)
		switch b.language {
		case setupBlock:
			script.WriteString("set -e\n" + b.text)
		case commandBlock:
			script.WriteString("set +e\n" + b.text)
		}
	}
	script.WriteString("echo '<end>'\n")

	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "output"))
	require.NoError(t, err)
	defer out.Close()
	work := filepath.Join(dir, "work")
	require.NoError(t, os.Mkdir(work, 0o750))
	shell := exec.Command("sh", "-c", script.String())
	shell.Dir, shell.Stdout, shell.Stderr = work, out, out
	repo, err := filepath.Abs("../..")
	require.NoError(t, err)
	shell.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "REPO="+repo)
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, shell.Start())
	endGroup := func() { _ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) } // with the writers of the set-up
	timeout := time.AfterFunc(30*time.Second, endGroup)
	err = shell.Wait()
	timeout.Stop()
	endGroup()
	text, readErr := os.ReadFile(out.Name())
	require.NoError(t, readErr)
	require.NoError(t, err, "the set-up failed or took too long; the output is:\n%s", text)

	rest := strings.ReplaceAll(string(text), work+"/", "") // a writer's messages have absolute paths
	outputs := make([]string, len(blocks))
	_, rest, _ = strings.Cut(rest, "<block 0>\n")
	for i := range blocks {
		next := fmt.Sprintf("<block %d>\n", i+1)
		if i == len(blocks)-1 {
			next = "<end>\n"
		}
		var found bool
		outputs[i], rest, found = strings.Cut(rest, next)
		require.True(t, found, "no end of block %d in:\n%s", i, text)
	}
	return outputs
}

// The commands of the runbook print the output that it shows. To rewrite the shown output after a
// change of a message, run
//
//	go test ./cmd/replay-tool -run TestRunbook_Commands -update-runbook
//
// and read the difference.
func TestRunbook_Commands(t *testing.T) { runDocument(t, runbookFile) }

// runDocument runs the commands of each section of a document and compares their output with the
// blocks after them. With -update-runbook it rewrites these blocks.
func runDocument(t *testing.T, file string) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("the commands of the document need a POSIX shell: " + err.Error())
	}
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	sections := parseRunbook(string(content))
	var shared strings.Builder
	for _, b := range sections[0].blocks {
		if b.language == setupBlock {
			shared.WriteString(b.text)
		}
	}
	require.NotEmpty(t, shared.String(), "the set-up before the first heading")

	var mu sync.Mutex
	updates := map[int]string{} // new text by line of the opening fence
	t.Run("sections", func(t *testing.T) {
		for _, s := range sections[1:] {
			blocks := withoutMissingPrograms(s.blocks)
			if !slices.ContainsFunc(blocks, func(b runbookBlock) bool { return b.language == commandBlock }) {
				continue
			}
			t.Run(s.title, func(t *testing.T) {
				t.Parallel()
				outputs := runSection(t, shared.String(), blocks)
				all := normalized(strings.Join(outputs, ""))
				for i, b := range blocks {
					switch b.language {
					case commandBlock:
						hasOutput := i+1 < len(blocks) && blocks[i+1].language == expectedBlock
						require.True(t, hasOutput, "%s, line %d: no expected output after the command", file, b.line)
					case symptomBlock:
						for message := range strings.Lines(b.text) {
							if want := normalized(strings.TrimSpace(message)); !strings.Contains(all, want) {
								t.Errorf("%s, line %d: the section does not print %q. It prints:\n%s", file, b.line, want, all)
							}
						}
					case expectedBlock:
						hasCommand := i > 0 && blocks[i-1].language == commandBlock
						require.True(t, hasCommand, "%s, line %d: no command before the expected output", file, b.line)
						if normalized(outputs[i-1]) == normalized(b.text) {
							continue
						}
						if *updateRunbook {
							mu.Lock()
							updates[b.line] = withoutTrailingSpaces(outputs[i-1])
							mu.Unlock()
							continue
						}
						require.Equal(t, normalized(b.text), normalized(outputs[i-1]), "%s, line %d", file, b.line)
					}
				}
			})
		}
	})
	if len(updates) > 0 {
		require.NoError(t, os.WriteFile(file, []byte(withUpdates(string(content), sections, updates)), 0o644))
	}
}

// withUpdates returns the text of a document with other text in the blocks at these lines.
func withUpdates(content string, sections []runbookSection, updates map[int]string) string {
	lines := strings.SplitAfter(content, "\n")
	for _, s := range slices.Backward(sections) {
		for _, b := range slices.Backward(s.blocks) {
			if text, ok := updates[b.line]; ok {
				lines = slices.Replace(lines, b.line, b.line+b.lineCount, text)
			}
		}
	}
	return strings.Join(lines, "")
}

// The runbook has a section for each exit code and names each exported error and each warning of the
// store.
func TestRunbook_CoversExitCodesAndErrors(t *testing.T) {
	content, err := os.ReadFile(runbookFile)
	require.NoError(t, err)
	runbook := string(content)
	var titles []string
	for _, s := range parseRunbook(runbook) {
		titles = append(titles, s.title)
	}
	read := func(pattern string) (all string) {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			all += string(b)
		}
		return all
	}

	codes := numbers(read("exit.go"), `(?m)^\texit\w+ += (\d+)$`)
	require.Len(t, codes, 11)
	for _, code := range codes {
		mentioned := regexp.MustCompile(`\bexit code ` + strconv.Itoa(code) + `\b`)
		require.True(t, slices.ContainsFunc(titles, func(title string) bool { return mentioned.MatchString(strings.ToLower(title)) }),
			"no section heading names exit code %d", code)
	}
	names := regexp.MustCompile(`(?m)^\t(Err\w+) += `).FindAllStringSubmatch(read("../../errors.go"), -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		named := regexp.MustCompile(`\b` + name[1] + `\b`).MatchString(runbook)
		require.True(t, named, "the runbook does not name %s", name[1])
	}
	warnings := regexp.MustCompile(`Logger\.(?:Warn|Error)\("([^"]+)"`).FindAllStringSubmatch(read("../../*.go"), -1)
	require.NotEmpty(t, warnings)
	for _, warning := range warnings {
		require.True(t, strings.Contains(runbook, warning[1]), "the runbook does not have this warning: %s", warning[1])
	}

	// Each link leads to a heading, and the table of contents has each heading.
	links := regexp.MustCompile(`\]\(#([^)]+)\)`).FindAllStringSubmatch(runbook, -1)
	for _, link := range links {
		require.True(t, slices.ContainsFunc(titles, func(title string) bool { return anchorOf(title) == link[1] }), "no heading for #%s", link[1])
	}
	contents, _, _ := strings.Cut(runbook, "\n## ")
	for _, title := range titles[1:] {
		require.True(t, strings.Contains(contents, "](#"+anchorOf(title)+")"), "the table of contents does not have %q", title)
	}
}

// anchorOf returns the name that a Markdown viewer gives to a heading.
func anchorOf(title string) string {
	title = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(title), "")
	return strings.ReplaceAll(title, " ", "-")
}

// Each message that the text of the runbook quotes exists in the code. A quote in backquotes that has
// at least three words in a row without a placeholder or a colon is a message, unless it is a shell
// command.
func TestRunbook_QuotesPresentMessages(t *testing.T) {
	content, err := os.ReadFile(runbookFile)
	require.NoError(t, err)
	source := moduleSource(t)
	prose := regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(string(content), "")
	command := regexp.MustCompile(`^(cp|echo|replay-tool|state|log log|verify|import|info|show|sed|mv|rm|ls|df|ps|kill|sudo|go) `)
	placeholder := regexp.MustCompile(`…|: |\b[A-Z]{1,5}\b|\blog/\S+|\d+`)
	systemMessages := []string{"no space left on device", "file too large"}
	checked := 0
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(prose, -1) {
		quote := strings.Join(strings.Fields(m[1]), " ")
		if command.MatchString(quote) || slices.Contains(systemMessages, quote) {
			continue
		}
		for _, part := range placeholder.Split(quote, -1) {
			part = strings.Trim(part, " :;,.()'\"")
			if len(strings.Fields(part)) < 3 {
				continue
			}
			checked++
			require.True(t, strings.Contains(source, part), "docs/RUNBOOK.md quotes %q, and no Go file of the module contains %q", quote, part)
		}
	}
	require.Greater(t, checked, 10, "the quotes were not found")
}

// moduleSource returns the text of the Go files of the root module without its tests.
func moduleSource(t *testing.T) string {
	var all strings.Builder
	for _, pattern := range []string{"../../*.go", "../../*/*.go", "../../*/*/*.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			all.Write(b)
		}
	}
	return all.String()
}
