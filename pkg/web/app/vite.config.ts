import { defineConfig, type Plugin } from "vite";

// Leaflet's pictures are for markers and a layer switch that the page has not.
const noPictures: Plugin = {
  name: "no-pictures",
  enforce: "pre",
  transform: (code, id) => (/leaflet\.css/.test(id) ? { code: code.replace(/url\(images\/[^)]*\)/g, "none"), map: null } : null),
};

// The built files have names without hashes, so that a change of the sources
// changes them and renames nothing; the hub's ETag tells browsers what is new.
export default defineConfig({
  base: "./",
  plugins: [noPictures],
  server: { proxy: { "/api": "http://127.0.0.1:8080", "/prometheus": "http://127.0.0.1:8080" } },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../dist",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      output: {
        entryFileNames: "[name].js",
        chunkFileNames: "[name].js",
        assetFileNames: "[name][extname]",
        codeSplitting: {
          groups: [
            { name: "page", priority: 2, test: /node_modules\/(preact|@preact)|src\/([a-z0-9]+\.tsx?|words\/|parts\/(?!plot|courses|sitemap))|vite\/preload/ },
            { name: "plot", priority: 1, test: /uplot|src\/parts\/(plot|courses)/ },
            { name: "sitemap", priority: 1, test: /leaflet|parts\/sitemap/ },
          ],
        },
      },
    },
  },
});
