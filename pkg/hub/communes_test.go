package hub

import "testing"

func TestTheSetupOffersTheCommunesOfLamDong(t *testing.T) {
	list := communes()
	if len(list) != 124 {
		t.Errorf("%d places, want 124", len(list))
	}
	seen := map[string]bool{}
	for _, c := range list {
		if seen[c.ID] || len(c.ID) != 5 || c.Name == "" || c.NameEN == "" || c.Lat < 10 || c.Lat > 13 || c.Lon < 106 || c.Lon > 110 {
			t.Errorf("%+v", c)
		}
		seen[c.ID] = true
	}
}
