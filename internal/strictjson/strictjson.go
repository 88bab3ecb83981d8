// Package strictjson reads JSON that comes from outside, without the liberties
// that encoding/json takes.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
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
	// Valid looks at the whole grammar, which reading token by token does not:
	// from here on the tokens cannot fail.
	if !json.Valid(data) {
		return nil, ErrNotObject
	}
	if err := CheckUnicode(data); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := value(dec, MaxDepth)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, ErrNotObject
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

func value(dec *json.Decoder, depth int) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth == 0 {
		return nil, ErrTooDeep
	}
	var v any
	if delim == '{' {
		v, err = object(dec, depth-1)
	} else {
		v, err = array(dec, depth-1)
	}
	if err != nil {
		return nil, err
	}
	_, err = dec.Token() // the closing delimiter
	return v, err
}

func object(dec *json.Decoder, depth int) (map[string]any, error) {
	members := map[string]any{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, ok := token.(string)
		if !ok {
			return nil, ErrNotObject
		}
		if _, ok := members[key]; ok {
			return nil, ErrDuplicateKey
		}
		if members[key], err = value(dec, depth); err != nil {
			return nil, err
		}
	}
	return members, nil
}

func array(dec *json.Decoder, depth int) ([]any, error) {
	elements := []any{}
	for dec.More() {
		v, err := value(dec, depth)
		if err != nil {
			return nil, err
		}
		elements = append(elements, v)
	}
	return elements, nil
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
