package api

import _ "embed" // for the page

// browser is the page that shows the OpenAPI document. It asks the hub and nobody
// else.
//
//go:embed browser.html
var browser []byte
