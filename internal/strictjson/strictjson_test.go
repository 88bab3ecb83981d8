package strictjson

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestRefused(t *testing.T) {
	tests := []struct {
		name, text string
		want       error
	}{
		{"nothing", "", ErrNotObject},
		{"white space only", " \n", ErrNotObject},
		{"null", "null", ErrNotObject},
		{"array", "[]", ErrNotObject},
		{"string", `"{}"`, ErrNotObject},
		{"two objects", "{}{}", ErrNotObject},
		{"text after the object", "{} x", ErrNotObject},
		{"trailing comma", `{"a":1,}`, ErrNotObject},
		{"missing colon", `{"a" 1}`, ErrNotObject},
		{"unquoted key", `{a:1}`, ErrNotObject},
		{"comment", `{/**/}`, ErrNotObject},
		{"cut off", `{"a":"b`, ErrNotObject},
		{"raw control character in a string", "{\"a\":\"\x01\"}", ErrNotObject},
		{"byte order mark", "\ufeff{}", ErrNotObject},
		{"UTF-16", "{\x00}\x00", ErrNotObject},
		{"same key twice", `{"a":1,"a":1}`, ErrDuplicateKey},
		{"same key twice, once escaped", `{"a":1,"\u0061":1}`, ErrDuplicateKey},
		{"same key twice, deeper", `{"x":{"a":1,"a":1}}`, ErrDuplicateKey},
		{"same key twice in an array's object", `{"x":[{"a":1,"a":1}]}`, ErrDuplicateKey},
		{"invalid UTF-8 in a value", "{\"a\":\"\xff\"}", ErrInvalidUTF8},
		{"UTF-8 of a surrogate", "{\"a\":\"\xed\xa0\x80\"}", ErrInvalidUTF8},
		{"overlong UTF-8", "{\"a\":\"\xc0\xaf\"}", ErrInvalidUTF8},
		{"lone high surrogate", `{"a":"\ud83d"}`, ErrLoneSurrogate},
		{"lone low surrogate", `{"a":"\ude00"}`, ErrLoneSurrogate},
		{"high surrogate before a letter", `{"a":"\ud83dx"}`, ErrLoneSurrogate},
		{"high surrogate before another", `{"a":"\ud83d\ud83d\ude00"}`, ErrLoneSurrogate},
		{"surrogates in reverse", `{"a":"\ude00\ud83d"}`, ErrLoneSurrogate},
		{"high surrogate after another escape", `{"a":"\u0041\ud83d"}`, ErrLoneSurrogate},
		{"high surrogate after a pair", `{"a":"\ud83d\ude00\ud83d"}`, ErrLoneSurrogate},
		{"high surrogate at an odd place", `{"aa":"\ud83d"}`, ErrLoneSurrogate},
		{"lone surrogate in a key", `{"\uDBFF":1}`, ErrLoneSurrogate},
		{"nine levels", strings.Repeat(`{"a":`, 9) + "1" + strings.Repeat("}", 9), ErrTooDeep},
		{"nine levels after many numbers", `{"a":[1,2,3,4,5,6,7,8,9,` + strings.Repeat("[", 7) + strings.Repeat("]", 7) + "]}", ErrTooDeep},
		{"a thousand arrays", `{"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + "}", ErrTooDeep},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := Object([]byte(tt.text)); !errors.Is(err, tt.want) || err.Error() == "" {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestAccepted(t *testing.T) {
	tests := []struct {
		name, text string
		want       map[string]any
	}{
		{"empty", " {} \r\n", map[string]any{}},
		{"all kinds", `{"s":"x","n":1e400,"b":true,"z":null,"a":[1,[]],"o":{"k":"v"}}`, map[string]any{
			"s": "x", "n": json.Number("1e400"), "b": true, "z": nil,
			"a": []any{json.Number("1"), []any{}}, "o": map[string]any{"k": "v"}}},
		{"keys that differ in case stay apart", `{"a":"1","A":"2"}`, map[string]any{"a": "1", "A": "2"}},
		{"long s is not s", `{"ſ":"1","s":"2"}`, map[string]any{"ſ": "1", "s": "2"}},
		{"same key in different objects", `{"a":{"a":{}}}`, map[string]any{"a": map[string]any{"a": map[string]any{}}}},
		{"surrogate pair", `{"a":"\uD83D\ude00"}`, map[string]any{"a": "😀"}},
		{"escaped backslash before u", `{"a":"\\ud83d"}`, map[string]any{"a": `\ud83d`}},
		{"nine objects and arrays side by side", `{"a":[{},{},{},{},{},{},{},[],[],[],[],[],[],[],[],[]]}`, nil},
		{"eight levels", strings.Repeat(`{"a":`, 8) + "1" + strings.Repeat("}", 8), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Object([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if tt.want != nil && !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %#v, want %#v", got, tt.want)
			}
		})
	}
}
