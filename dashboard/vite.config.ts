import { gzipSync } from "node:zlib";
import vue from "@vitejs/plugin-vue";
import { defineConfig, type Plugin } from "vite";

/** Beside each text file its compressed sibling: the gateway sends that one to whoever takes it. */
function gzipSiblings(): Plugin {
  return {
    name: "gzip-siblings",
    apply: "build",
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        for (const file of Object.values(bundle)) {
          if (!/\.(js|css|svg)$/.test(file.fileName)) continue;
          const source = gzipSync(file.type === "chunk" ? file.code : file.source, { level: 9 });
          this.emitFile({ type: "asset", fileName: `${file.fileName}.gz`, source });
        }
      },
    },
  };
}

const gateway = process.env.LLAMAPROXY_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  // Relative, so that the page works below any path of a reverse proxy.
  base: "./",
  plugins: [vue(), gzipSiblings()],
  // `default-src 'self'` forbids data: addresses and inline scripts.
  build: { assetsInlineLimit: 0, modulePreload: { polyfill: false }, target: "es2022", reportCompressedSize: false },
  server: {
    proxy: { "/api": gateway, "/v1": gateway, "/llamaproxws": { target: gateway, ws: true } },
  },
  test: { environment: "happy-dom", include: ["tests/**/*.test.ts"], restoreMocks: true },
} as Parameters<typeof defineConfig>[0]);
