// docs/observe.md lists the metrics that there are: each by its name, kind and labels, and no other.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { startApp } from '../support/app.ts';
import { listQueries } from '../support/dashboard.ts';
import { parseMetrics } from '../support/metrics.ts';

const PAGE = readFileSync(join(import.meta.dirname, '../../docs/observe.md'), 'utf8');

const documented = [...PAGE.matchAll(/^\| `((?:veneer|process)_\w+)` +\| (\w+) +\| (.*?) +\| (.+?) +\|$/gm)].map(
  ([, name = '', kind = '', labels = '']) => ({
    name,
    kind,
    labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label),
  }),
);

test('every metric is in the table, with its kind, and every one of the table is there', async () => {
  const app = await startApp();
  onTestFinished(() => app.close());
  const { families } = parseMetrics(await (await app.request('/metrics')).text());
  const kinds = Object.fromEntries([...families].map(([name, { type }]) => [name, type]));
  expect(Object.fromEntries(documented.map(({ name, kind }) => [name, kind]))).toEqual(kinds);
  expect(documented.length).toBe(families.size);
});

test('the labels of series that there are are in the table', async () => {
  const app = await startApp();
  onTestFinished(() => app.close());
  await app.request('/v2/lab/library/app/manifests/1');
  const { series } = parseMetrics(await (await app.request('/metrics')).text());
  for (const key of series.keys()) {
    const [, name = '', inner = ''] = /^(\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})?$/.exec(key) ?? [];
    const labels = [...inner.matchAll(/(\w+)="/g)].map(([, label = '']) => label).filter(label => label !== 'le');
    expect([name, ...labels.sort()]).toEqual([
      name,
      ...(documented.find(each => each.name === name)?.labels ?? []).sort(),
    ]);
  }
});

test('the dashboard and the alerts of deploy/ name metrics and labels of the table', async () => {
  const alerts = readFileSync(join(import.meta.dirname, '../../deploy/prometheus-alerts.yaml'), 'utf8');
  const queries = [
    ...(await listQueries()),
    ...[...alerts.matchAll(/expr: (?:\|\n)?([\s\S]*?)\n {8}\w+:/g)].map(([, expr = '']) => expr),
  ];
  expect(queries.length).toBeGreaterThan(40);
  const known = new Map(documented.map(({ name, labels }) => [name, labels]));
  const faults = queries.flatMap(query =>
    [...query.matchAll(/\b((?:veneer|process)_\w+)(?:\{(.*?)\}[[)\s]|)/g)].flatMap(([, series = '', inner = '']) => {
      const labels = known.get(series) ?? known.get(series.replace(/_(?:bucket|sum|count)$/, ''));
      const used = [...inner.matchAll(/(\w+)=~?"/g)].map(([, label = '']) => label);
      const unknown = used.filter(label => !['instance', 'job', 'le', ...(labels ?? [])].includes(label));
      return labels ? unknown.map(label => `${series} has no ${label}`) : [`there is no ${series}`];
    }),
  );
  expect(faults).toEqual([]);
});
