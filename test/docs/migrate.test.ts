// The worked example of docs/migrate.md: its rules are loaded, and do to an image what the policy does to a pod.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { PLATFORMS, startApp } from '../support/app.ts';
import { checkImage } from '../support/oracle.ts';

const imageConfig = z.looseObject({
  config: z.looseObject({ Env: z.array(z.string()), Labels: z.record(z.string(), z.string()) }),
});
const policySchema = z.object({
  spec: z.object({
    rules: z.tuple([
      z.looseObject({
        mutate: z.object({
          patchStrategicMerge: z.looseObject({
            spec: z.looseObject({
              containers: z.tuple([
                z.looseObject({
                  env: z.array(z.object({ name: z.string(), value: z.string() })),
                  volumeMounts: z.tuple([z.looseObject({ mountPath: z.string() })]),
                }),
              ]),
            }),
          }),
        }),
      }),
    ]),
  }),
});

test('the rules in place of the policy set its variable and bring its file, on every platform', async () => {
  const page = await readFile(join(import.meta.dirname, '../../docs/migrate.md'), 'utf8');
  const [policy = '', yaml = ''] = [...page.matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].map(([, text = '']) => text);
  const [{ mutate }] = policySchema.parse(parse(policy)).spec.rules;
  const [{ env, volumeMounts }] = mutate.patchStrategicMerge.spec.containers;
  const [{ mountPath }] = volumeMounts;

  const app = await startApp();
  onTestFinished(() => app.close());
  app.putImage();
  const folder = join(app.directory, 'layers/company-ca');
  await mkdir(join(folder, dirname(mountPath)), { recursive: true });
  await writeFile(join(folder, mountPath), 'a certificate');
  const { rules } = parse(yaml.replace('./layers', join(app.directory, 'layers')));
  await app.configure({ upstreams: { 'docker.io': { url: app.registry.url } }, rules });

  const images = await checkImage(await app.head('library/app', '1'), descriptor =>
    app.read('library/app', descriptor),
  );
  expect(images).toHaveLength(PLATFORMS.length);
  for (const image of images) {
    const raw = await app.read('library/app', image.config);
    const { config } = imageConfig.parse(JSON.parse(Buffer.from(raw).toString()));
    expect(config.Env).toContain(env.map(({ name, value }) => `${name}=${value}`).join());
    expect(config.Labels['com.example.ca']).toBe('company');
  }
});
