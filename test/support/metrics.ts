// Metrics as Prometheus reads them.

export interface Metrics {
  /** `name type help` of each family. */
  readonly families: ReadonlyMap<string, { readonly type: string; readonly help: string }>;
  /** By name and labels, as they are written. */
  readonly series: ReadonlyMap<string, number>;
  /** The sum of all series of a name that have these labels; undefined where there is none. */
  sum(name: string, labels?: Readonly<Record<string, string>>): number | undefined;
}

const SERIES = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/;

/** Throws for a line that is none of the format. */
export function parseMetrics(text: string): Metrics {
  const families = new Map<string, { type: string; help: string }>();
  const series = new Map<string, number>();
  for (const line of text.split('\n').filter(Boolean)) {
    const [, kind, about = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (kind) {
      const family = families.get(about) ?? { type: '', help: '' };
      families.set(about, kind === 'HELP' ? { ...family, help: rest } : { ...family, type: rest });
      continue;
    }
    const [, name, , value] = SERIES.exec(line) ?? [];
    if (name === undefined || value === undefined) throw new Error(`no line of metrics: ${line}`);
    series.set(line.slice(0, line.lastIndexOf(' ')), Number(value));
  }
  return {
    families,
    series,
    sum(name, labels = {}) {
      const parts = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
      const found = [...series].filter(
        ([key]) => SERIES.exec(`${key} 0`)?.[1] === name && parts.every(part => key.includes(part)),
      );
      return found.length === 0 ? undefined : found.reduce((sum, [, value]) => sum + value, 0);
    },
  };
}
