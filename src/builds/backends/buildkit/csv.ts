// The options of BuildKit's clients that are lists of fields: CSV, RFC 4180.

/** One record of `key=value` fields; those that are undefined are left out. */
export function csvFields(fields: Readonly<Record<string, string | undefined>>): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => quote(`${key}=${value}`))
    .join(',');
}

function quote(field: string): string {
  return /[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field;
}
