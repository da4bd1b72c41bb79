package hub

import "github.com/langbiang/langbiang/pkg/api"

// communes are the places that the setup offers: those of Lâm Đồng around the mountain
// Lang Biang, with the codes of the General Statistics Office since 1 July 2025; the
// coordinates are approximate centres. Any other can be typed there, or listed in
// sites.yaml.
func communes() []api.Commune {
	return []api.Commune{
		{ID: "24846", Name: "Phường Lang Biang - Đà Lạt", NameEN: "Lang Biang - Đà Lạt ward", Province: "Lâm Đồng", Lat: 12.0564, Lon: 108.402},
		{ID: "24848", Name: "Xã Lạc Dương", NameEN: "Lạc Dương commune", Province: "Lâm Đồng", Lat: 12.1288, Lon: 108.596},
		{ID: "24853", Name: "Xã Đam Rông 4", NameEN: "Đam Rông 4 commune", Province: "Lâm Đồng", Lat: 12.1741, Lon: 108.367},
	}
}
