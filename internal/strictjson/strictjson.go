// Package strictjson reads JSON that comes from outside, without the liberties
// that encoding/json takes.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays may nest, the outermost counted.
const MaxDepth = 8

// The ways in which a text is not one well-formed JSON object. None quotes the
// text, so each may be logged and shown.
var (
	ErrNotObject     = errors.New("not one JSON object and nothing else")
	ErrDuplicateKey  = errors.New("an object holds the same key twice")
	ErrInvalidUTF8   = errors.New("the text is not valid UTF-8")
	ErrLoneSurrogate = errors.New("a string holds half of a surrogate pair")
	ErrTooDeep       = errors.New("the nesting is too deep")
)

// Object reads one JSON object. Its values are string, json.Number, bool, nil,
// []any and map[string]any.
//
// Keys are kept as they are, where encoding/json would match them to struct
// fields with case folded ("CONFIGURATIONID", and U+017F for s) and let the
// last of two equal keys win, so that two readers of one request may see
// different values. Invalid UTF-8 and lone surrogates, which encoding/json turns
// into U+FFFD, are refused, as is a byte order mark. The caller bounds the
// length of data.
func Object(data []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return nil, ErrNotObject
	}
	object, ok := v.(map[string]any)
	if _, err := dec.Token(); !ok || !errors.Is(err, io.EOF) {
		return nil, ErrNotObject
	}
	if err := CheckUnicode(data); err != nil {
		return nil, err
	}
	keys, depth := shape(data)
	if depth > MaxDepth {
		return nil, ErrTooDeep
	}
	if members(object) < keys { // of equal ones the map has the last
		return nil, ErrDuplicateKey
	}
	return object, nil
}

// CheckUnicode reports what encoding/json would turn into U+FFFD in valid JSON:
// [ErrInvalidUTF8] or [ErrLoneSurrogate].
func CheckUnicode(data []byte) error {
	switch {
	case !utf8.Valid(data):
		return ErrInvalidUTF8
	case hasLoneSurrogate(data):
		return ErrLoneSurrogate
	}
	return nil
}

// shape returns how many keys the objects of valid JSON have, all together, and
// how deep it nests.
func shape(data []byte) (keys, depth int) {
	level, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ':':
			keys++
		case c == '{' || c == '[':
			level++
			depth = max(depth, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return keys, depth
}

// members returns how many members the maps in a value have, all together.
func members(v any) int {
	n := 0
	switch v := v.(type) {
	case map[string]any:
		n = len(v)
		for _, v := range v {
			n += members(v)
		}
	case []any:
		for _, v := range v {
			n += members(v)
		}
	}
	return n
}

// hasLoneSurrogate reports whether valid JSON escapes one half of a surrogate
// pair without the other. A backslash occurs inside strings only, and what
// follows it is well formed, so the strings need no parsing.
func hasLoneSurrogate(data []byte) bool {
	for {
		i := bytes.IndexByte(data, '\\')
		if i < 0 {
			return false
		}
		data = data[i:]
		switch {
		case data[1] != 'u':
			data = data[2:]
		case isLow(data):
			return true
		case !isHigh(data):
			data = data[6:]
		case !isLow(data[6:]):
			return true
		default:
			data = data[12:]
		}
	}
}

// isHigh and isLow look at the first six bytes for an escape of U+D800..U+DBFF
// and U+DC00..U+DFFF.
func isHigh(b []byte) bool { return isSurrogate(b, "89aAbB") }
func isLow(b []byte) bool  { return isSurrogate(b, "cCdDeEfF") }

func isSurrogate(b []byte, third string) bool {
	return len(b) >= 6 && b[0] == '\\' && b[1] == 'u' && (b[2] == 'd' || b[2] == 'D') &&
		bytes.IndexByte([]byte(third), b[3]) >= 0
}
