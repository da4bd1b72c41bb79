package hub

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// maxOutlines bounds page.outlines in bytes: every browser reads it.
const maxOutlines = 8 << 20

// page checks what hub.yaml says of the page and reads its outlines.
func (c *checker) page(cfg *PageConfig) []byte {
	if cfg.Tiles != "" {
		u, err := url.Parse(cfg.Tiles)
		named := strings.Contains(cfg.Tiles, "{z}") && strings.Contains(cfg.Tiles, "{x}") && strings.Contains(cfg.Tiles, "{y}")
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.ContainsAny(u.Host, "{}; ,'") || !named {
			c.fault(fmt.Sprintf("%q is no address of tiles", cfg.Tiles), "for example https://tiles.example/{z}/{x}/{y}.png, with the host in full", "page", "tiles")
		}
	}
	for i, origin := range cfg.Frames {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Scheme+"://"+u.Host != origin || strings.ContainsAny(origin, "; ,'*") {
			c.fault(fmt.Sprintf("%q is no origin", origin), "scheme and host, such as https://ioc.example", "page", "frames", i)
		}
	}
	if cfg.Outlines == "" {
		return nil
	}
	data, err := os.ReadFile(cfg.Outlines)
	if err != nil {
		c.fault(err.Error(), "paths are relative to the folder of this file", "page", "outlines")
		return nil
	}
	var shape struct {
		Type string `json:"type"`
	}
	switch err := json.Unmarshal(data, &shape); {
	case err != nil:
		c.fault(fmt.Sprintf("%s is no GeoJSON: %v", cfg.Outlines, err), "", "page", "outlines")
	case shape.Type != "FeatureCollection" && shape.Type != "Feature" && shape.Type != "GeometryCollection" && shape.Type != "Polygon" && shape.Type != "MultiPolygon":
		c.fault(fmt.Sprintf("%s is no GeoJSON of outlines: its type is %q", cfg.Outlines, shape.Type), "a FeatureCollection of polygons", "page", "outlines")
	case len(data) > maxOutlines:
		c.fault(fmt.Sprintf("%s has %d bytes; at most %d", cfg.Outlines, len(data), maxOutlines), "simplify the outlines", "page", "outlines")
	}
	return data
}

// images are the origins that the page may take pictures from.
func (p *PageConfig) images() []string {
	u, err := url.Parse(p.Tiles)
	if p.Tiles == "" || err != nil {
		return nil
	}
	return []string{u.Scheme + "://" + u.Host}
}
