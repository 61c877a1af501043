/** What a configuration key means, read from the gateway's JSON Schema. Pure. */

export type Kind = "truth" | "choice" | "count" | "duration" | "bytes" | "list" | "text";

export interface Meaning {
  kind: Kind;
  description: string;
  choices: string[];
}

interface Property {
  type?: string;
  description?: string;
  enum?: unknown[];
  anyOf?: Property[];
  items?: Property;
  maximum?: number;
  le?: number;
  $ref?: string;
}

export interface Schema {
  properties?: Record<string, Property>;
  $defs?: Record<string, { properties?: Record<string, Property> }>;
}

/** The largest size that the gateway takes; nothing but sizes has this bound. */
const LARGEST_SIZE = 2 ** 53;

export function meaningOf(schema: Schema | null, section: string, key: string): Meaning {
  const name = schema?.properties?.[section]?.$ref?.split("/").at(-1) ?? "";
  const property = schema?.$defs?.[name]?.properties?.[key] ?? {};
  const choices = inner(property).enum?.map(String) ?? [];
  return { kind: kindOf(inner(property)), description: property.description ?? "", choices };
}

/** Without "or nothing". */
function inner(property: Property): Property {
  return property.anyOf?.find((one) => one.type !== "null") ?? property;
}

/** Every number that is not whole is a time in seconds. */
function kindOf(property: Property): Kind {
  if (property.enum) return "choice";
  if (property.type === "boolean") return "truth";
  if (property.type === "number") return "duration";
  if (property.type === "array") return "list";
  if (property.type !== "integer") return "text";
  return (property.maximum ?? property.le) === LARGEST_SIZE ? "bytes" : "count";
}
