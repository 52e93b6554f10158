// Examples of configurations in documents are configurations.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { configSchema } from '../../src/config/schema.ts';

const ROOT = join(import.meta.dirname, '../..');
const pages = [
  'README.md',
  ...readdirSync(join(ROOT, 'docs')).flatMap(name => (name.endsWith('.md') ? [`docs/${name}`] : [])),
];

/** Of each page: the YAML that is for veneer.yaml, which is all but that for Prometheus, Kubernetes and its charts. */
const examples = pages.flatMap(page =>
  [
    ...readFileSync(join(ROOT, page), 'utf8').matchAll(
      /^(?:```yaml|cat > veneer\.yaml <<'YAML')\n([\s\S]*?)^(?:```|YAML)$/gm,
    ),
  ]
    .map(([, yaml = ''], index) => ({ page, yaml, number: index + 1 }))
    .filter(({ yaml }) => !/^(?:scrape_configs|apiVersion|image):/m.test(yaml)),
);

test.each(examples)('$page, number $number', ({ yaml }) => {
  const environment = new Proxy<Record<string, string>>({}, { get: () => 'https://a-value.example', has: () => true });
  const faults = configSchema(environment).safeParse(parse(yaml)).error?.issues ?? [];
  // The reader has the files that it names, and the backend that it is a part of.
  const isOfReader = /^cannot read |no entry of builds\.backends has/;
  expect(faults.filter(({ message }) => !isOfReader.test(message))).toEqual([]);
});
