//go:build interop

package interop

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// The programs that docs/integration.md gives people to copy from.
func TestTheExamplesOfTheDocumentsTellOfAnAlert(t *testing.T) {
	receiver := freePort(t)
	base := startHub(t, `
rules: [./rules.yaml]
push: {sources: [{id: push, site: "24848", token_file: ./token, lag: 1s, map: [{metric: dust_pm2_5, quantity: pm2_5, point: pm2_5}]}]}
deliver: {webhooks: [{name: ioc, url: "http://127.0.0.1:`+receiver+`/", secret: {file: ./secret}, allow_private: true}]}
`, map[string]string{
		"token": token, "secret": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
		"rules.yaml": "- {id: dust, watch: {quantity: pm2_5}, above: {critical: {limit: 110}}, message: {vi: \"Bụi {{.Device}}\", en: \"Dust {{.Device}}\"}}\n",
	})
	req, err := http.NewRequest(http.MethodPost, base+"/api/v2/write?bucket=push", strings.NewReader("dust,host=hall pm2_5=130"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Token "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatal(resp.Status)
	}
	const examples = "../../docs/examples/"
	position := filepath.Join(t.TempDir(), "position")
	serve(t, "alert.raised critical 24848 Bụi hall", "env", "LANGBIANG_WEBHOOK_SECRET=whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", python, examples+"webhook.py", receiver)
	serve(t, "raised critical 24848 Bụi hall", python, examples+"alerts.py", base, position)
	serve(t, "io.github.langbiang.alert.raised", "sh", examples+"alerts.sh", base, position+".sh")
}
