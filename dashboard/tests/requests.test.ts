import { expect, it } from "vitest";
import { asked, path } from "../src/pages/requests/listing";

it("asks for the newest by itself", () => {
  expect(path(asked(new URLSearchParams()), null)).toBe("api/requests?limit=50&sort=-started_at");
});

it("asks for what the page's address says", () => {
  const query = asked(new URLSearchParams("sort=-duration_ms&model=org/m&state=rejected&key=a b&id=7"));
  expect(path(query, "1_2")).toBe("api/requests?limit=50&sort=-duration_ms&model=org%2Fm&state=rejected&key=a+b&before=1_2");
});
