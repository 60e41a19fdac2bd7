package replay

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// lineReader reads a JSON object into a struct with json tags. Package json accepts keys in upper
// case and numbers in other forms, and its errors do not contain the value. A lineReader accepts
// only the keys of the struct. It requires each key without "omitempty". A number must be whole and
// in range. It may also be given as a string. No number becomes a float64, so none is rounded.
type lineReader struct {
	missing, unknown []string // quoted keys; missing: in the order of the struct, unknown: sorted
	rounded          string   // the first key with a number that looks rounded, and the number
}

// read reads the whole line into the struct that into points at.
func (l *lineReader) read(line []byte, into any) error {
	if err := l.object("", line, into); err != nil {
		return err
	}
	return l.keyError()
}

// object reads one JSON object into the struct that into points at. The path is the prefix of its
// keys in messages. It collects missing and unknown keys, which keyError returns as an error.
func (l *lineReader) object(path string, raw []byte, into any) error {
	return l.fields(path, raw, reflect.ValueOf(into).Elem())
}

func (l *lineReader) fields(path string, raw []byte, into reflect.Value) error {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return wrongForm(strings.TrimSuffix(path, "."), raw, "a JSON object")
	}
	for _, f := range fieldsOf(into.Type()) {
		value, ok := members[f.key]
		delete(members, f.key)
		if !ok || isNull(value) {
			if !f.optional {
				l.missing = append(l.missing, strconv.Quote(path+f.key))
			}
			continue
		}
		if err := l.value(path+f.key, value, into.FieldByIndex(f.index)); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		l.unknown = append(l.unknown, shown([]byte(strconv.Quote(path+key))))
	}
	return nil
}

// keyError returns an error with all missing and all unknown keys, or nil if there are none.
func (l *lineReader) keyError() error {
	var problems []string
	if len(l.unknown) > 0 {
		problems = append(problems, keys("unknown", l.unknown)+" (misspelled?)")
	}
	if len(l.missing) > 0 {
		problems = append(problems, keys("missing", l.missing))
	}
	if problems == nil {
		return nil
	}
	return errors.New(strings.Join(problems, ", and "))
}

func keys(adjective string, names []string) string {
	if len(names) == 1 {
		return adjective + " key " + names[0]
	}
	return adjective + " keys " + strings.Join(names, ", ")
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// value reads one JSON value. The line has already passed checkSyntax.
func (l *lineReader) value(key string, raw json.RawMessage, into reflect.Value) error {
	switch {
	case into.Kind() == reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return l.value(key, raw, into.Elem())
	case into.Type() == reflect.TypeFor[json.RawMessage]():
		into.SetBytes(raw)
		return nil
	case reflect.PointerTo(into.Type()).Implements(textUnmarshaler):
		var text string
		if json.Unmarshal(raw, &text) != nil || into.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)) != nil {
			return wrongForm(key, raw, textForm(into))
		}
		return nil
	}
	switch into.Kind() {
	case reflect.Struct:
		return l.fields(key+".", raw, into)
	case reflect.Slice:
		return l.list(key, raw, into)
	case reflect.Uint32, reflect.Uint64, reflect.Int64:
		return l.number(key, raw, into)
	case reflect.Bool:
		if json.Unmarshal(raw, into.Addr().Interface()) != nil {
			return wrongForm(key, raw, "true or false")
		}
		return nil
	}
	if json.Unmarshal(raw, into.Addr().Interface()) != nil {
		return wrongForm(key, raw, "a text in quotes")
	}
	return nil
}

// textForm describes the texts that a type accepts.
func textForm(v reflect.Value) string {
	switch v.Interface().(type) {
	case checkpoint.Phase:
		var names []string
		for p := checkpoint.PhaseAddLearner; p <= checkpoint.PhaseComplete; p++ {
			names = append(names, p.String())
		}
		return "a phase: the phases are " + strings.Join(names, ", ")
	case checkpoint.CompensationKind:
		var names []string
		for k := checkpoint.RemoveLearner; k <= checkpoint.RemoveGhostStub; k++ {
			names = append(names, k.String())
		}
		return "a kind of compensation: the kinds are " + strings.Join(names, ", ")
	case segment.Severity:
		return "a text in quotes"
	case hexText:
		return "64 hexadecimal digits in quotes"
	}
	return `a UUID, such as "01a20629-44f1-75f5-8bf1-d9e9fef8b7a5"`
}

func (l *lineReader) list(key string, raw json.RawMessage, into reflect.Value) error {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return wrongForm(key, raw, "a JSON list")
	}
	into.Set(reflect.MakeSlice(into.Type(), len(items), len(items)))
	for i, item := range items {
		if err := l.value(fmt.Sprintf("%s[%d]", key, i), item, into.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

// number reads a whole number, or a string with one. It must have the form that strconv writes.
// "007", "+7" and "1e3" are errors.
func (l *lineReader) number(key string, raw json.RawMessage, into reflect.Value) error {
	text, form := string(raw), ""
	isString := raw[0] == '"'
	if isString && json.Unmarshal(raw, &text) != nil {
		text = ""
	}
	ok, bits := false, into.Type().Bits()
	if into.CanUint() {
		n, err := strconv.ParseUint(text, 10, bits)
		ok = err == nil && strconv.FormatUint(n, 10) == text
		into.SetUint(n)
		form = fmt.Sprintf("a whole number from 0 to %d", ^uint64(0)>>(64-bits))
	} else {
		n, err := strconv.ParseInt(text, 10, bits)
		ok = err == nil && strconv.FormatInt(n, 10) == text
		into.SetInt(n)
		form = fmt.Sprintf("a whole number from %d to %d", int64(-1)<<(bits-1), int64(^uint64(0)>>(65-bits)))
	}
	if !ok && key == "seq" && strings.IndexByte(`"-0123456789`, raw[0]) >= 0 {
		into.SetUint(0)
		return nil // any number or string will do, because the seq is ignored
	}
	rounded := !isString && looksRounded(text)
	if !ok {
		if rounded {
			form += ". " + RoundingHint
		}
		return wrongForm(key, raw, form)
	}
	if rounded && l.rounded == "" && key != "seq" {
		l.rounded = fmt.Sprintf("%q: %s", key, text)
	}
	return nil
}

// uncheckedRounding returns the rounded number of a line without a crc32c, or "". A clock of
// microseconds has three zeros at its end and looks rounded. Only a checksum that does not match
// makes such a number suspect.
func (l *lineReader) uncheckedRounding(crc *uint32) string {
	if crc != nil || strings.HasSuffix(l.rounded, "000") {
		return ""
	}
	return l.rounded
}

// RoundingHint states why a number may have been rounded, and how to print it again.
const RoundingHint = "Programs such as jq 1.6 and JavaScript round numbers above 2^53. Print the lines again with --json-strings, and keep these numbers as strings"

// minRounded is the first number after which a float64 cannot hold every whole number.
const minRounded = 1 << 53

// looksRounded reports whether a number may be the output of a program that holds numbers as
// float64. Such a program prints a large number exactly, or with the shortest digits that give the
// same float64, and it prints some with a point or an exponent.
func looksRounded(text string) bool {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < minRounded {
		return false
	}
	if strings.ContainsAny(text, ".eE") {
		return true
	}
	return text == strconv.FormatFloat(f, 'f', 0, 64) || text == strconv.FormatFloat(f, 'f', -1, 64)
}

// checksumError describes a line whose crc32c is not that of its event.
type checksumError string

func (e checksumError) Error() string { return string(e) }
func (checksumError) Unwrap() error   { return checkpoint.ErrCRCMismatch }

// checkCRC compares the event with the crc32c of its line, which is nil if the line has none.
func (l *lineReader) checkCRC(e checkpoint.Event, crc *uint32) error {
	if crc == nil {
		return nil
	}
	want, err := checkpoint.EventCRC32C(e)
	if err != nil || want == *crc {
		return err
	}
	of := "event"
	if _, ok := e.(checkpoint.Upserted); ok {
		of = "payload"
	}
	message := fmt.Sprintf("\"crc32c\": %d does not match the %s, whose CRC32C is %d. ", *crc, of, want)
	if l.rounded != "" {
		return checksumError(message + l.rounded + " may have been rounded. " + RoundingHint)
	}
	return checksumError(message + "The line was changed after it was printed. Print it again. If the change is intended, remove the key crc32c")
}

// wrongForm returns an error for a value that is not of the expected form. The key is empty for the
// whole line.
func wrongForm(key string, raw []byte, form string) error {
	if key == "" {
		return fmt.Errorf("%s is not %s", shown(raw), form)
	}
	return fmt.Errorf("%q: %s is not %s", key, shown(raw), form)
}

// maxShownBytes limits the part of a value that a message has.
const maxShownBytes = 64

// shown returns the beginning of a JSON text for a message. It escapes the characters that are not
// printable, which a terminal could interpret.
func shown(raw []byte) string {
	text, end := string(bytes.TrimSpace(raw)), ""
	if len(text) > maxShownBytes {
		text, end = strings.ToValidUTF8(text[:maxShownBytes], ""), "…"
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String() + end
}

func isNull(raw []byte) bool { return string(raw) == "null" }

// structField is a field of a struct that a lineReader reads.
type structField struct {
	key      string
	optional bool // omitempty: the output lacks the key if it is zero
	index    []int
}

// structFields has the fields of each type, since finding them is slow.
var structFields sync.Map

func fieldsOf(t reflect.Type) []structField {
	if known, ok := structFields.Load(t); ok {
		return known.([]structField)
	}
	var fields []structField
	for _, f := range reflect.VisibleFields(t) {
		key, options, tagged := strings.Cut(f.Tag.Get("json"), ",")
		if key != "" && key != "-" {
			fields = append(fields, structField{key, tagged && strings.Contains(options, "omitempty"), f.Index})
		}
	}
	structFields.Store(t, fields)
	return fields
}

// checkSyntax returns an error if a line is not one JSON value in UTF-8, if it is nested too
// deeply, or if a key in it is used twice or has an invalid name.
func checkSyntax(line []byte) error {
	if at := invalidUTF8At(line); at >= 0 {
		return fmt.Errorf("byte %d (0x%02x) is not valid UTF-8: convert the input to UTF-8", at+1, line[at])
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if err := checkKeys(d, maxDepth); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value: put each event on a line of its own")
	}
	return nil
}

// invalidUTF8At returns the offset of the first byte that is not valid UTF-8, or -1.
func invalidUTF8At(line []byte) int {
	if utf8.Valid(line) {
		return -1
	}
	at := 0
	for {
		r, size := utf8.DecodeRune(line[at:])
		if r == utf8.RuneError && size <= 1 {
			return at
		}
		at += size
	}
}

// checkKeys reads one JSON value. It returns an error if a key occurs twice, or has a character
// other than a-z, 0-9 and "_". Package json would accept "Attempt" as "attempt", and would use the
// later of two equal keys. Values may be nested up to depth.
func checkKeys(d *json.Decoder, depth int) error {
	token, err := d.Token()
	switch {
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	case depth == 0:
		return fmt.Errorf("nested more than %d levels deep, so the line is not an event", maxDepth)
	}
	switch token {
	case json.Delim('{'):
		seen := make(map[string]bool, 8)
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name := key.(string)
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
				return fmt.Errorf("unknown key %s: keys consist of a-z, 0-9 and _", shown([]byte(strconv.Quote(name))))
			}
			if seen[name] {
				return fmt.Errorf("the key %s is there twice: remove one of them", shown([]byte(strconv.Quote(name))))
			}
			seen[name] = true
			if err := checkKeys(d, depth-1); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for d.More() {
			if err := checkKeys(d, depth-1); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	if _, err = d.Token(); err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// maxDepth is deeper than any valid line.
const maxDepth = 32
