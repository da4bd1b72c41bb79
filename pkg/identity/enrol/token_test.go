package enrol

import (
	"errors"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestATokenIsOneWord(t *testing.T) {
	want := NewToken(Fingerprint([]byte("authority")))
	got, err := ParseToken("  " + want.String() + "\n")
	if err != nil || got != want || len(want.String()) != 69 {
		t.Errorf("%s: %v", want, err)
	}
	if NewToken(want.Authority) == want {
		t.Error("two tokens with one secret")
	}
}

func FuzzToken(f *testing.F) {
	f.Add(NewToken([32]byte{}).String())
	f.Add("lbe1.")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseToken(text)
		if err != nil {
			if !errors.Is(err, ErrToken) {
				t.Error(err)
			}
			return
		}
		if again, err := ParseToken(got.String()); err != nil || again != got {
			t.Errorf("%q: %v", text, err)
		}
	})
}
