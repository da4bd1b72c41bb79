package wire

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

func testAsk() *Ask {
	return &Ask{
		V: Version, ID: AskID{1, 2}, Kind: "log", Args: map[string]string{"lines": "200", "level": "warn"},
		For: 60_000, Who: "an", Have: 3, Again: true,
	}
}

func testAnswers() []*Answer {
	return []*Answer{
		{ID: AskID{1}},
		{ID: AskID{1}, Run: 7, Text: "short\n"},
		{ID: AskID{1, 2, 3}, Run: 1 << 31, Seq: 300, Text: strings.Repeat("ok    disk  12 GB free\n", 200), Metered: true},
		{Status: AnswerFailed, Truncated: true, Seq: 9, Text: "STOP  hub\n", Note: "the readings of mua stop on their way"},
	}
}

func TestQuestionsAndAnswersSurvive(t *testing.T) {
	p, err := EncodeAsk(testAsk())
	if err != nil {
		t.Fatal(err)
	}
	var ask Ask
	if err := DecodeAsk(p, &ask); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(testAsk(), &ask); d != "" {
		t.Error(d)
	}
	var c AnswerCoder
	for _, want := range testAnswers() {
		p, err := c.Encode(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		if k, err := Peek(p); k != KindAnswer || err != nil {
			t.Errorf("peek: %v, %v", k, err)
		}
		var got Answer
		if err := c.Decode(p, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, &got); d != "" {
			t.Error(d)
		}
	}
}

func TestQuestionsAndAnswersBeyondTheirBoundsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Ask){
		"too many arguments": func(a *Ask) {
			for i := range MaxArgs + 1 {
				a.Args[strings.Repeat("x", i)] = ""
			}
		},
		"a long argument": func(a *Ask) { a.Args["match"] = strings.Repeat("x", MaxArg+1) },
		"a long name":     func(a *Ask) { a.Args[strings.Repeat("x", MaxArg+1)] = "" },
		"a long kind":     func(a *Ask) { a.Kind = strings.Repeat("x", MaxArg+1) },
		"a long person":   func(a *Ask) { a.Who = strings.Repeat("x", MaxArg+1) },
	} {
		a := testAsk()
		change(a)
		if _, err := EncodeAsk(a); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		raw, err := encodeJSON(a, MaxJSON)
		if err != nil {
			t.Fatal(err)
		}
		if err := DecodeAsk(raw, &Ask{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s, received: %v", name, err)
		}
	}
	if err := DecodeAsk([]byte(`{"v":1,"kind":"`+strings.Repeat("x", MaxAsk)+`"}`), &Ask{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a large document: %v", err)
	}
	if err := DecodeAsk([]byte(`{"v":2,"id":"0102030405060708"}`), &Ask{}); !errors.Is(err, ErrVersion) {
		t.Errorf("a later version: %v", err)
	}

	var c AnswerCoder
	if _, err := c.Encode(nil, &Answer{Text: strings.Repeat("x", MaxAnswerText+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a long text: %v", err)
	}
	rng, noise := rand.New(rand.NewPCG(1, 2)), make([]byte, MaxAnswer)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	if _, err := c.Encode(nil, &Answer{Text: string(noise)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("what does not compress: %v", err)
	}
}

// bomb is an answer whose text says one length and unpacks to another.
func bomb(t testing.TB, says, is int) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := begin(nil, KindAnswer)
	out = append(out, make([]byte, 12)...)
	out = append(out, 0, answerPacked, 0, 0)
	out = appendUvarint(out, uint64(says))
	out, err = seal(z.EncodeAll(make([]byte, is), out), 0)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAnAnswerThatUnpacksToMoreThanItSaysIsCorrupt(t *testing.T) {
	var c AnswerCoder
	for _, b := range [][]byte{bomb(t, 10, 20), bomb(t, 10, 64<<20), bomb(t, MaxAnswerText, 64<<20), bomb(t, MaxAnswerText+1, MaxAnswerText+1), bomb(t, 20, 10)} {
		if err := c.Decode(b, &Answer{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
	if cap(c.out) > 2*MaxAnswerText {
		t.Errorf("%d bytes set aside", cap(c.out))
	}
}

func FuzzDecodeAnswer(f *testing.F) {
	var c AnswerCoder
	for _, a := range testAnswers() {
		p, err := c.Encode(nil, a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Add(bomb(f, 100, 1<<20))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var c AnswerCoder
		var a, b Answer
		known(t, c.Decode(payload, &a))
		if !known(t, c.Decode(resealed(payload, KindAnswer), &a)) {
			return
		}
		p, err := c.Encode(nil, &a)
		if errors.Is(err, ErrTooLarge) {
			return // another encoder packs better
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Decode(p, &b); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(a, b); d != "" {
			t.Error(d)
		}
	})
}

func FuzzDecodeAsk(f *testing.F) {
	p, err := EncodeAsk(testAsk())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Fuzz(func(t *testing.T, payload []byte) {
		var a, b Ask
		if !known(t, DecodeAsk(payload, &a)) {
			return
		}
		p, err := EncodeAsk(&a)
		if errors.Is(err, ErrTooLarge) {
			return // JSON escapes more than it was given
		}
		if err != nil {
			t.Fatal(err)
		}
		known(t, DecodeAsk(p, &b))
	})
}
