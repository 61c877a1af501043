/** Where the gateway is: the folder of the page's own address, whatever path a reverse proxy puts before it. */

export function baseUrl(): URL {
  return new URL(".", document.baseURI);
}

/** An address of the gateway, from a path without a leading slash. */
export function gatewayUrl(path: string): string {
  return new URL(path, baseUrl()).href;
}

export function socketUrl(): string {
  const url = new URL("llamaproxws", baseUrl());
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}
