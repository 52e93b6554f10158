// What a template makes of a request for packages.

export interface Rendered {
  readonly containerFile: string;
  /** The build context: texts by their names. */
  readonly files: Readonly<Record<string, string>>;
}
