import { expect, it } from "vitest";
import { readable } from "../src/pages/requests/bodies";
import { asked, path } from "../src/pages/requests/listing";

it("asks for the newest by itself", () => {
  expect(path(asked(new URLSearchParams()), null)).toBe("api/requests?limit=50&sort=-started_at");
});

it("asks for what the page's address says", () => {
  const query = asked(new URLSearchParams("sort=-duration_ms&model=org/m&state=rejected&key=a b&id=7"));
  expect(path(query, "1_2")).toBe("api/requests?limit=50&sort=-duration_ms&model=org%2Fm&state=rejected&key=a+b&before=1_2");
});

it("indents a kept body that is JSON, and leaves all others", () => {
  const body = { bytes: 9, omitted: 0, last: null };
  expect(readable({ ...body, first: '{"a":[1]}' })).toBe('{\n  "a": [\n    1\n  ]\n}');
  expect(readable({ ...body, first: "data: {}" })).toBe("data: {}");
  expect(readable({ ...body, omitted: 7, first: "be", last: "end" })).toBe("be\n… 7 bytes left out …\nend");
});
