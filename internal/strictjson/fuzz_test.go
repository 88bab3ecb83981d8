package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// FuzzObject holds Object to two readers. It accepts exactly what jsontext does,
// which is strict by default (unique names, valid UTF-8, no lone surrogates),
// among objects of MaxDepth at most; and reads the same values as both.
func FuzzObject(f *testing.F) {
	for _, s := range []string{
		`{}`, " {} \r\n", `{"a":"\ud83d\ude00"}`, `{"a":{"b":[1,2,{"c":null}]}}`, `{"a":1,"\u0061":2}`, `{"x":[{"a":1,"a":1}]}`, `{"a":"\\\ud83d"}`,
		`{"a":"\"\\","b:":"{[:"}`, "\ufeff{}", `{"a":-0.1e+9}`, `{"a":01}`, "{\"a\":\"\xff\"}", `{"a":"\ud83d\u0041"}`, `{"":{"":{"":""}}}`, `{}{}`,
		strings.Repeat(`{"a":`, 8) + "1" + strings.Repeat("}", 8), strings.Repeat(`{"a":`, 9) + "1" + strings.Repeat("}", 9),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Object(data)
		strict, depth, strictErr := readStrictly(data)
		object, ok := strict.(map[string]any)
		if good := strictErr == nil && ok && depth <= MaxDepth; good != (err == nil) {
			t.Fatalf("got %#v, %v; jsontext has %#v, %d levels, %v", got, err, strict, depth, strictErr)
		}
		if err != nil {
			return
		}
		if !reflect.DeepEqual(got, object) {
			t.Fatalf("got %#v, jsontext has %#v", got, object)
		}
		var lax map[string]any
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		if err := dec.Decode(&lax); err != nil || !reflect.DeepEqual(got, lax) {
			t.Fatalf("got %#v, encoding/json has %#v, %v", got, lax, err)
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Object(again); err != nil || !reflect.DeepEqual(back, got) {
			t.Fatalf("written out and read back: %#v, %v; want %#v", back, err, got)
		}
	})
}

// readStrictly reads one JSON value and the end of the text with jsontext, and
// tells how deep the value nests.
func readStrictly(data []byte) (v any, depth int, err error) {
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	if v, err = readValue(dec, &depth); err != nil {
		return nil, depth, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, depth, errors.New("text after the value")
	}
	return v, depth, nil
}

func readValue(dec *jsontext.Decoder, depth *int) (any, error) {
	token, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	*depth = max(*depth, dec.StackDepth())
	switch token.Kind() {
	case jsontext.KindString:
		return token.String(), nil
	case jsontext.KindNumber:
		return json.Number(token.String()), nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return token.Bool(), nil
	case jsontext.KindBeginObject:
		object := map[string]any{}
		for dec.PeekKind() != jsontext.KindEndObject {
			name, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			key := name.String() // before the next token, which takes its place
			if object[key], err = readValue(dec, depth); err != nil {
				return nil, err
			}
		}
		_, err := dec.ReadToken()
		return object, err
	case jsontext.KindBeginArray:
		array := []any{}
		for dec.PeekKind() != jsontext.KindEndArray {
			v, err := readValue(dec, depth)
			if err != nil {
				return nil, err
			}
			array = append(array, v)
		}
		_, err := dec.ReadToken()
		return array, err
	}
	return nil, nil // null
}
