// Sizes in bytes as people read them, in the units of the configuration.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** With at most one decimal: `512 B`, `1.5 GiB`. */
export function formatSize(bytes: number): string {
  let [size, unit] = [bytes, 0];
  while (Math.round(size) >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${Number(size.toFixed(1))} ${UNITS[unit]}`;
}
