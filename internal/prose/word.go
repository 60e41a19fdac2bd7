package main

// word is a group of words that is counted, with the limit of its rate over all comments outside
// tests.
type word struct {
	name        string
	forms       []string
	least, most float64 // occurrences per 1,000 words of comments; most 0: no upper limit
	reason      string
}

var words = []word{
	{name: "if", forms: []string{"if"}, least: 7, reason: "a condition begins with if"},
	{name: "where", forms: []string{"where"}, most: 3, reason: "where is for places; use if for conditions"},
	{name: "what", forms: []string{"what", "whatever", "whoever"}, most: 0.8, reason: "name the thing instead of a clause with what"},
	{name: "tell", forms: []string{"tell", "tells", "told", "telling"}, most: 0.4, reason: "say who returns or records it"},
}

// discouraged are phrases that no comment may contain, with a plain alternative.
var discouraged = map[string]string{
	"lets go of":      "releases",
	"let go of":       "release",
	"comes by":        "finds",
	"goes by":         "uses",
	"all the same":    "anyway",
	"so as to":        "to",
	"as it were":      "(leave it out)",
	"but for":         "except for",
	"else it":         "otherwise it",
	"of which nobody": "that cannot be attributed",
	"is told":         "gets an error, returns, is logged …",
	"are told":        "get an error …",
	"vouch":           "prove",
	"believes":        "uses, accepts",
	"held against":    "compared with",
	"hold against":    "compare with",
	"makes room":      "preallocates, makes space",
	"in its stead":    "instead",
}
