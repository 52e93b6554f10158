// The YAML of an environment, which comes from strangers and may be long.
import { type Document, parseDocument } from 'yaml';

/** Its faults are in `errors`. */
export function parseEnvironment(text: string): Document {
  // To compare each key with all before it, and to show the place of each fault, both take the square of the length.
  return parseDocument(text, { uniqueKeys: false, prettyErrors: false });
}
