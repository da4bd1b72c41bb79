package hub

import (
	_ "embed"
	"encoding/csv"
	"strconv"
	"strings"

	"github.com/langbiang/langbiang/pkg/api"
)

//go:embed communes.csv
var communesCSV string

// communes are the places that the setup offers: the 124 communes, wards and the
// special zone of Lâm Đồng since 1 July 2025, by name, with their codes of the
// General Statistics Office, from public lists; the coordinates are approximate
// centres. Any other can be typed there, or listed in sites.yaml.
func communes() []api.Commune {
	rows, err := csv.NewReader(strings.NewReader(communesCSV)).ReadAll()
	if err != nil {
		panic("communes.csv: " + err.Error()) // part of the program, and tested
	}
	list := make([]api.Commune, 0, len(rows))
	for _, r := range rows[1:] {
		lat, _ := strconv.ParseFloat(r[3], 64)
		lon, _ := strconv.ParseFloat(r[4], 64)
		list = append(list, api.Commune{ID: r[0], Name: r[1], NameEN: r[2], Province: "Lâm Đồng", Lat: lat, Lon: lon})
	}
	return list
}
