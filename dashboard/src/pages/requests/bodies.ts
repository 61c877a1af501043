/** A kept body as people read it. Pure. */

import type { Body } from "../../types";

const LONGEST_INDENTED = 200_000;

/** JSON is indented where all of it is there; everything else stays as it came. */
export function readable(body: Body): string {
  if (body.last !== null) return `${body.first}\n… ${body.omitted} bytes left out …\n${body.last}`;
  if (body.first.length > LONGEST_INDENTED) return body.first;
  try {
    return JSON.stringify(JSON.parse(body.first), null, 2);
  } catch {
    return body.first; // a stream, or no JSON
  }
}
